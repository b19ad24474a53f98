// The Python module ocior._ocior: a thin layer over the public C++ API. The GIL is released while models load and run; arrays
// enter and leave without copies where their memory allows it.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <deque>

#include "ocior/ocior.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace ocior;

// Exception classes by status code, with ONNX Runtime's names.
constexpr const char* kErrorNames[] = {"",
                                       "Fail",
                                       "InvalidArgument",
                                       "NoSuchFile",
                                       "NoModel",
                                       "EngineError",
                                       "RuntimeException",
                                       "InvalidProtobuf",
                                       "ModelLoaded",
                                       "NotImplemented",
                                       "InvalidGraph",
                                       "EPFail",
                                       "ModelLoadCanceled",
                                       "ModelRequiresCompilation",
                                       "NotFound"};
PyObject* error_classes[std::size(kErrorNames)];

[[noreturn]] void raise(const Status& status) {
  const auto code = static_cast<size_t>(status.code());
  PyObject* type = code < std::size(kErrorNames) && error_classes[code] ? error_classes[code] : PyExc_RuntimeError;
  const std::string text = "[ONNXRuntimeError] : " + std::to_string(code) + " : " +
                           (code < std::size(kErrorNames) ? kErrorNames[code] : "") + " : " + status.message();
  PyErr_SetString(type, text.c_str());
  throw nb::python_error();
}

template <class T>
T unwrap(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return std::move(result).value();
}

DType dtype_of(const nb::dlpack::dtype& d) {
  using nb::dlpack::dtype_code;
  switch (static_cast<dtype_code>(d.code)) {
    case dtype_code::Float:
      return d.bits == 32 ? DType::kFloat : d.bits == 64 ? DType::kDouble : d.bits == 16 ? DType::kFloat16 : DType::kUndefined;
    case dtype_code::Int:
      return d.bits == 64   ? DType::kInt64
             : d.bits == 32 ? DType::kInt32
             : d.bits == 16 ? DType::kInt16
             : d.bits == 8  ? DType::kInt8
                            : DType::kUndefined;
    case dtype_code::UInt:
      return d.bits == 64   ? DType::kUint64
             : d.bits == 32 ? DType::kUint32
             : d.bits == 16 ? DType::kUint16
             : d.bits == 8  ? DType::kUint8
                            : DType::kUndefined;
    case dtype_code::Bool: return DType::kBool;
    case dtype_code::Bfloat: return DType::kBFloat16;
    case dtype_code::Complex: return d.bits == 64 ? DType::kComplex64 : DType::kComplex128;
    default: return DType::kUndefined;
  }
}

std::optional<nb::dlpack::dtype> dlpack_of(DType t) {
  using nb::dlpack::dtype_code;
  const auto bits = static_cast<uint8_t>(bits_of(t));
  switch (t) {
    case DType::kFloat:
    case DType::kDouble:
    case DType::kFloat16: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Float), bits, 1};
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Int), bits, 1};
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
    case DType::kUint64: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::UInt), bits, 1};
    case DType::kBool: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Bool), 8, 1};
    case DType::kComplex64:
    case DType::kComplex128: return nb::dlpack::dtype{static_cast<uint8_t>(dtype_code::Complex), bits, 1};
    default: return std::nullopt;
  }
}

nb::object numpy() { return nb::module_::import_("numpy"); }

Value strings_of(nb::handle array, const std::string& name) {
  nb::object flat = array.attr("ravel")();
  std::vector<std::string> values;
  for (nb::handle item : flat) {
    if (nb::isinstance<nb::bytes>(item)) values.emplace_back(nb::cast<nb::bytes>(item).c_str());
    else if (nb::isinstance<nb::str>(item)) values.push_back(nb::cast<std::string>(item));
    else raise(Status(Code::kInvalidArgument, "input '" + name + "': an array of objects must hold strings only"));
  }
  const auto shape = nb::cast<std::vector<int64_t>>(array.attr("shape"));
  return unwrap(Value::strings(shape, std::move(values)));
}

bool is_dense(const nb::ndarray<nb::ro>& a) {
  int64_t step = 1;
  for (size_t i = a.ndim(); i-- > 0;) {
    if (a.shape(i) != 1 && a.stride(i) != step && a.size() > 0) return false;
    step *= static_cast<int64_t>(a.shape(i));
  }
  return true;
}

// An array (anything with the buffer protocol or DLPack, or a list) as a Value that borrows its memory; `keep` receives what must
// stay alive.
Value value_of(nb::handle object, const std::string& name, std::deque<nb::object>& keep) {
  nb::object held = nb::borrow(object);
  if (nb::hasattr(held, "numpy") && !nb::hasattr(held, "__array_interface__")) held = held.attr("numpy")();
  if (nb::isinstance<nb::list>(held) || nb::isinstance<nb::tuple>(held) || nb::isinstance<nb::float_>(held) ||
      nb::isinstance<nb::int_>(held))
    held = numpy().attr("asarray")(held);
  if (nb::hasattr(held, "dtype")) {
    const std::string kind = nb::cast<std::string>(nb::str(nb::getattr(nb::getattr(held, "dtype"), "kind", nb::str("?"))));
    if (kind == "O" || kind == "U" || kind == "S") return strings_of(held, name);
  }
  nb::ndarray<nb::ro> array;
  if (!nb::try_cast(held, array))
    raise(Status(Code::kInvalidArgument,
                 "input '" + name + "' is a " + nb::cast<std::string>(nb::str(held.type())) + "; pass a NumPy array"));
  if (!is_dense(array)) {
    held = numpy().attr("ascontiguousarray")(held);
    array = nb::cast<nb::ndarray<nb::ro>>(held);
  }
  const DType dtype = dtype_of(array.dtype());
  if (dtype == DType::kUndefined)
    raise(Status(Code::kInvalidArgument, "input '" + name + "': its element type is not supported"));
  std::vector<int64_t> shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(static_cast<int64_t>(array.shape(i)));
  keep.push_back(std::move(held));
  return unwrap(Value::view(dtype, shape, const_cast<void*>(array.data()), array.nbytes()));
}

nb::object array_of(const Value& value) {
  if (!value.is_tensor()) return nb::none();
  const auto shape = value.shape();
  if (value.dtype() == DType::kString) {
    nb::list items;
    for (const std::string& s : value.string_data()) items.append(nb::str(s.data(), s.size()));
    nb::object flat = numpy().attr("array")(items, "dtype"_a = nb::str("object"));
    return flat.attr("reshape")(nb::cast(std::vector<int64_t>(shape.begin(), shape.end())));
  }
  const auto dtype = dlpack_of(value.dtype());
  if (!dtype) raise(Status(Code::kNotImplemented, "NumPy has no element type for " + std::string(name_of(value.dtype()))));
  std::vector<size_t> sizes(shape.begin(), shape.end());
  auto* owner = new Value(value);
  nb::capsule capsule(owner, [](void* p) noexcept { delete static_cast<Value*>(p); });
  return nb::cast(nb::ndarray<nb::numpy>(owner->data(), sizes.size(), sizes.data(), capsule, nullptr, *dtype));
}

// ONNX Runtime's shape lists: numbers, symbols, None.
nb::list shape_of(const ValueInfo& info) {
  nb::list out;
  for (const Dimension& d : info.shape) {
    if (d.value >= 0) out.append(d.value);
    else if (!d.symbol.empty()) out.append(d.symbol);
    else out.append(nb::none());
  }
  return out;
}

struct PySessionOptions {
  SessionOptions options;
};

struct PySession {
  explicit PySession(Session s) : session(std::move(s)) {
    for (const ValueInfo& v : session.outputs()) output_names.push_back(v.name);
  }
  Session session;
  std::vector<std::string> output_names;

  nb::list run(const nb::object& names, const nb::dict& feeds, RunOptions* options) {
    std::deque<nb::object> keep;
    std::deque<std::string> feed_names;
    std::vector<Feed> list;
    list.reserve(nb::len(feeds));
    for (auto [key, array] : feeds) {
      feed_names.push_back(nb::cast<std::string>(key));
      list.push_back({feed_names.back(), value_of(array, feed_names.back(), keep)});
    }
    std::vector<std::string> wanted;
    if (!names.is_none()) wanted = nb::cast<std::vector<std::string>>(names);
    Result<std::vector<Value>> got = [&] {
      nb::gil_scoped_release release;
      return session.run(list, wanted, options);
    }();
    nb::list out;
    for (const Value& v : unwrap(std::move(got))) out.append(array_of(v));
    return out;
  }
};

PySession load(const nb::object& model, const PySessionOptions& options,
               const std::vector<std::pair<std::string, std::map<std::string, std::string>>>& providers) {
  SessionOptions chosen = options.options;
  chosen.providers.clear();
  for (const auto& [name, settings] : providers) chosen.providers.push_back({name, settings});
  nb::object warn = nb::module_::import_("warnings").attr("warn");
  chosen.log = [warn](LogLevel level, std::string_view text) {
    if (level < LogLevel::kWarning) return;
    nb::gil_scoped_acquire acquire;
    warn(nb::str(text.data(), text.size()), "stacklevel"_a = 4);
  };
  if (nb::isinstance<nb::bytes>(model)) {
    const auto bytes = nb::cast<nb::bytes>(model);
    Result<Session> s = [&] {
      nb::gil_scoped_release release;
      return Session::load(std::span(static_cast<const std::byte*>(bytes.data()), bytes.size()), chosen);
    }();
    return PySession(unwrap(std::move(s)));
  }
  const auto path = nb::cast<std::string>(nb::module_::import_("os").attr("fspath")(model));
  Result<Session> s = [&] {
    nb::gil_scoped_release release;
    return Session::load(path, chosen);
  }();
  return PySession(unwrap(std::move(s)));
}

}  // namespace

NB_MODULE(_ocior, m) {
  m.doc() = "Ocior runs ONNX models.";
  for (size_t i = 1; i < std::size(kErrorNames); ++i) {
    error_classes[i] = PyErr_NewException((std::string("ocior.") + kErrorNames[i]).c_str(), PyExc_RuntimeError, nullptr);
    m.attr(kErrorNames[i]) = nb::handle(error_classes[i]);
  }
  m.attr("__version__") = nb::str(version().data(), version().size());

  nb::class_<ValueInfo>(m, "NodeArg", "Name, type and shape of a model's input or output.")
      .def_prop_ro("name", [](const ValueInfo& v) { return v.name; })
      .def_prop_ro(
          "type", [](const ValueInfo& v) { return v.type_string(); }, "ONNX type, \"tensor(float)\"")
      .def_prop_ro("shape", shape_of, "list of int, str (a symbol) or None")
      .def("__repr__", [](const ValueInfo& v) {
        return "NodeArg(name='" + v.name + "', type='" + v.type_string() +
               "', shape=" + nb::cast<std::string>(nb::repr(shape_of(v))) + ")";
      });

  nb::class_<ModelMetadata>(m, "ModelMetadata")
      .def_ro("producer_name", &ModelMetadata::producer_name)
      .def_ro("graph_name", &ModelMetadata::graph_name)
      .def_ro("domain", &ModelMetadata::domain)
      .def_ro("description", &ModelMetadata::description)
      .def_ro("graph_description", &ModelMetadata::graph_description)
      .def_ro("version", &ModelMetadata::version)
      .def_ro("custom_metadata_map", &ModelMetadata::custom);

  nb::class_<PySessionOptions>(m, "SessionOptions", "How a session is made; every option has a default.")
      .def(nb::init<>())
      .def_prop_rw(
          "intra_op_num_threads", [](const PySessionOptions& o) { return o.options.intra_op_num_threads; },
          [](PySessionOptions& o, int n) { o.options.intra_op_num_threads = n; },
          "threads of one run; 0: all cores the process may use")
      .def_prop_rw(
          "graph_optimization_level", [](const PySessionOptions& o) { return static_cast<int>(o.options.optimization); },
          [](PySessionOptions& o, int level) { o.options.optimization = static_cast<OptimizationLevel>(level); })
      .def(
          "add_session_config_entry",
          [](PySessionOptions& o, const std::string& key, const std::string& value) { o.options.config[key] = value; }, "key"_a,
          "value"_a)
      .def(
          "get_session_config_entry",
          [](const PySessionOptions& o, const std::string& key) {
            const auto it = o.options.config.find(key);
            if (it == o.options.config.end())
              raise(Status(Code::kInvalidArgument, "SessionOptions does not have configuration with key: " + key));
            return it->second;
          },
          "key"_a)
      .def(
          "add_free_dimension_override_by_name",
          [](PySessionOptions& o, const std::string& name, int64_t value) { o.options.free_dimensions[name] = value; }, "name"_a,
          "value"_a);

  nb::class_<RunOptions>(m, "RunOptions", "How one run goes; `terminate = True` from another thread stops it.")
      .def(nb::init<>())
      .def_prop_rw("terminate", &RunOptions::terminated, [](RunOptions& o, bool stop) { stop ? o.terminate() : o.clear(); });

  nb::class_<PySession>(m, "Session")
      .def("run", &PySession::run, "output_names"_a.none(), "input_feed"_a, "run_options"_a.none() = nullptr)
      .def("inputs",
           [](const PySession& s) { return std::vector<ValueInfo>(s.session.inputs().begin(), s.session.inputs().end()); })
      .def("outputs",
           [](const PySession& s) { return std::vector<ValueInfo>(s.session.outputs().begin(), s.session.outputs().end()); })
      .def("overridable_initializers",
           [](const PySession& s) {
             return std::vector<ValueInfo>(s.session.overridable_initializers().begin(),
                                           s.session.overridable_initializers().end());
           })
      .def("metadata", [](const PySession& s) { return s.session.metadata(); })
      .def(
          "providers",
          [](const PySession& s) { return std::vector<std::string>(s.session.providers().begin(), s.session.providers().end()); })
      .def(
          "explain", [](const PySession& s, bool json) { return s.session.explain(json); }, "json"_a = false);

  m.def("load", &load, "model"_a, "options"_a, "providers"_a);
  m.def("available_providers",
        [] { return std::vector<std::string>(available_providers().begin(), available_providers().end()); });
}
