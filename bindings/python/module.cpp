// The Python module ocior._ocior: a thin layer over the public C++ API. The GIL is released while models load and run; arrays
// enter and leave without copies where their memory allows it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <deque>

#include "ocior/ocior.h"
#include "values.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace ocior;
using namespace ocior::python;

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
    for (auto [key, value] : feeds) {
      feed_names.push_back(nb::cast<std::string>(key));
      const ValueInfo* want = declaration(feed_names.back());  // null: run() reports the name
      Value given = want ? value_of(value, *want, keep) : tensor_of(value, feed_names.back(), keep);
      list.push_back({feed_names.back(), std::move(given)});
    }
    std::vector<std::string> wanted;
    if (!names.is_none()) wanted = nb::cast<std::vector<std::string>>(names);
    Result<std::vector<Value>> got = [&] {
      nb::gil_scoped_release release;
      return session.run(list, wanted, options);
    }();
    nb::list out;
    for (const Value& v : unwrap(std::move(got))) out.append(object_of(v));
    return out;
  }

 private:
  const ValueInfo* declaration(const std::string& name) const {
    for (const auto inputs : {session.inputs(), session.overridable_initializers()})
      for (const ValueInfo& info : inputs)
        if (info.name == name) return &info;
    return nullptr;
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
  add_errors(m);
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
