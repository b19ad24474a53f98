// Model → protobuf bytes. One description of the messages (Putter) runs twice: over a Sizer, then over an Emitter (wire_out.h),
// so that no payload is copied on the way to a file. Checks what a hand-built Model may have wrong: no file is written that
// cannot be read.
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <new>

#include "base/atomic_file.h"
#include "base/error.h"
#include "onnx/model.h"
#include "onnx/proto_fields.h"
#include "onnx/quote.h"
#include "onnx/read_tensor.h"
#include "onnx/wire_out.h"

namespace ocior::onnx {
namespace {

using Kind = Attribute::Kind;

constexpr int64_t kProtobufLimit = std::numeric_limits<int32_t>::max();  // protobuf libraries read no larger message
constexpr size_t kExternalAtLeast = 1024;
constexpr int64_t kExternalAlignment = 4096;  // onnx.proto: offsets should be multiples of the page size

// Where initializers went that do not fit into the protobuf. Keyed by address: the Model is not changed while it is written.
struct ExternalLayout {
  std::string location;
  std::map<const Tensor*, int64_t> offsets;
  std::vector<const Tensor*> order;
};

// The messages of onnx.proto, over either of the two. Empty strings and lists are left out, as protobuf does.
template <class Out>
class Putter {
 public:
  Putter(Out& out, const ExternalLayout& external) : out_(out), external_(external) {}

  Status model(const Model& model);

 private:
  void bytes(uint32_t tag, std::string_view text) { out_.bytes(tag, std::as_bytes(std::span(text))); }
  void text(uint32_t tag, std::string_view text) {
    if (!text.empty()) bytes(tag, text);
  }
  void texts(uint32_t tag, const std::vector<std::string>& list) {
    for (const std::string& item : list) bytes(tag, item);
  }
  void number(uint32_t tag, int64_t value) { out_.varint(tag, static_cast<uint64_t>(value)); }
  void numbers(uint32_t tag, const std::vector<int64_t>& list) {
    for (const int64_t value : list) number(tag, value);  // one by one, as onnx.proto (proto2) declares dims and ints
  }
  void entry(uint32_t tag, std::string_view key, std::string_view value) {
    (void)out_.message(tag, [&] {
      bytes(field::StringStringEntry::kKey, key);
      bytes(field::StringStringEntry::kValue, value);
      return Status();
    });
  }
  void entries(uint32_t tag, const std::vector<std::pair<std::string, std::string>>& list) {
    for (const auto& [key, value] : list) entry(tag, key, value);
  }
  void opsets(uint32_t tag, const std::vector<std::pair<std::string, int64_t>>& list) {
    for (const auto& [domain, version] : list)
      (void)out_.message(tag, [&, &domain = domain, &version = version] {
        bytes(field::OperatorSetId::kDomain, domain);
        number(field::OperatorSetId::kVersion, version);
        return Status();
      });
  }
  // Every element of `list` as a message; errors are labelled with its index and name.
  template <class List, class Put>
  Status each(uint32_t tag, const List& list, std::string_view what, Put put) {
    size_t index = 0;
    for (const auto& item : list) {
      Status status = out_.message(tag, [&] { return put(item); });
      if (!status.ok()) {
        if constexpr (requires { item.name; })
          return with_context(std::move(status), fmt::format("{} {} {}", what, index, quoted(item.name)));
        else return with_context(std::move(status), fmt::format("{} {}", what, index));
      }
      ++index;
    }
    return {};
  }
  Status nodes(uint32_t tag, const std::vector<Node>& list, int depth) {
    return each(tag, list, "node", [&](const Node& item) { return node(item, depth); });
  }
  Status attributes(uint32_t tag, const std::vector<Attribute>& list, int depth) {
    return each(tag, list, "attribute", [&](const Attribute& item) { return attribute(item, depth); });
  }
  Status tensors(uint32_t tag, const std::vector<Tensor>& list) {
    return each(tag, list, "tensor", [&](const Tensor& item) { return tensor(item); });
  }
  Status sparse_tensors(uint32_t tag, const std::vector<SparseTensor>& list) {
    return each(tag, list, "sparse tensor", [&](const SparseTensor& item) { return sparse_tensor(item); });
  }
  Status values(uint32_t tag, const std::vector<ValueInfo>& list, std::string_view what) {
    return each(tag, list, what, [&](const ValueInfo& item) { return value_info(item); });
  }
  Status graphs(uint32_t tag, const std::vector<std::shared_ptr<Graph>>& list, int depth) {
    return each(tag, list, "graph", [&](const std::shared_ptr<Graph>& item) {
      return item ? graph(*item, depth + 1) : error(Code::kInvalidArgument, "it is a null pointer");
    });
  }
  Status types(uint32_t tag, const std::vector<Type>& list) {
    return each(tag, list, "type", [&](const Type& item) { return type(item, 1); });
  }

  Status graph(const Graph& graph, int depth);
  Status node(const Node& node, int depth);
  Status function(const Function& function);
  Status attribute(const Attribute& attribute, int depth);
  Status tensor(const Tensor& tensor);
  Status sparse_tensor(const SparseTensor& sparse);
  Status value_info(const ValueInfo& value);
  Status type(const Type& type, int depth);
  Status tensor_type(const Type& type);

  Out& out_;
  const ExternalLayout& external_;
};

Status check_depth(int depth) {
  if (depth <= ReadLimits().max_depth) return {};
  return error(Code::kInvalidArgument, "graphs or types are nested more than {} deep", ReadLimits().max_depth);
}

template <class Out>
Status Putter<Out>::model(const Model& model) {
  using F = field::Model;
  number(F::kIrVersion, model.ir_version);
  text(F::kProducerName, model.producer_name);
  text(F::kProducerVersion, model.producer_version);
  text(F::kDomain, model.domain);
  if (model.model_version) number(F::kModelVersion, model.model_version);
  text(F::kDocString, model.doc);
  OCIOR_RETURN_IF_ERROR(out_.message(F::kGraph, [&] { return graph(model.graph, 1); }));
  opsets(F::kOpsetImport, model.opset_imports);
  entries(F::kMetadataProps, model.metadata);
  return each(F::kFunctions, model.functions, "function", [&](const Function& item) { return function(item); });
}

template <class Out>
Status Putter<Out>::graph(const Graph& graph, int depth) {
  using F = field::Graph;
  OCIOR_RETURN_IF_ERROR(check_depth(depth));
  OCIOR_RETURN_IF_ERROR(nodes(F::kNode, graph.nodes, depth));
  text(F::kName, graph.name);
  OCIOR_RETURN_IF_ERROR(tensors(F::kInitializer, graph.initializers));
  text(F::kDocString, graph.doc);
  OCIOR_RETURN_IF_ERROR(values(F::kInput, graph.inputs, "input"));
  OCIOR_RETURN_IF_ERROR(values(F::kOutput, graph.outputs, "output"));
  OCIOR_RETURN_IF_ERROR(values(F::kValueInfo, graph.value_info, "value info"));
  OCIOR_RETURN_IF_ERROR(sparse_tensors(F::kSparseInitializer, graph.sparse_initializers));
  entries(F::kMetadataProps, graph.metadata);
  return {};
}

template <class Out>
Status Putter<Out>::node(const Node& node, int depth) {
  using F = field::Node;
  if (node.op_type.empty()) return error(Code::kInvalidArgument, "the operator's name (op_type) is missing");
  texts(F::kInput, node.inputs);
  texts(F::kOutput, node.outputs);
  text(F::kName, node.name);
  text(F::kOpType, node.op_type);
  OCIOR_RETURN_IF_ERROR(attributes(F::kAttribute, node.attributes, depth));
  text(F::kDocString, node.doc);
  text(F::kDomain, node.domain);
  text(F::kOverload, node.overload);
  entries(F::kMetadataProps, node.metadata);
  return {};
}

template <class Out>
Status Putter<Out>::function(const Function& function) {
  using F = field::Function;
  if (function.name.empty()) return error(Code::kInvalidArgument, "the function's name is missing");
  text(F::kName, function.name);
  texts(F::kInput, function.inputs);
  texts(F::kOutput, function.outputs);
  texts(F::kAttribute, function.attributes);
  OCIOR_RETURN_IF_ERROR(nodes(F::kNode, function.nodes, 1));
  text(F::kDocString, function.doc);
  opsets(F::kOpsetImport, function.opset_imports);
  text(F::kDomain, function.domain);
  OCIOR_RETURN_IF_ERROR(attributes(F::kAttributeProto, function.attribute_defaults, 1));
  OCIOR_RETURN_IF_ERROR(values(F::kValueInfo, function.value_info, "value info"));
  text(F::kOverload, function.overload);
  entries(F::kMetadataProps, function.metadata);
  return {};
}

// How many values a kind with one value must have, against what the lists hold.
Status check_single(const Attribute& a) {
  const bool is_reference = !a.ref_attr_name.empty();
  size_t got = 1;
  switch (a.kind) {
    case Kind::kTensor: got = a.tensors.size(); break;
    case Kind::kGraph: got = a.graphs.size(); break;
    case Kind::kSparseTensor: got = a.sparse_tensors.size(); break;
    case Kind::kTypeProto: got = a.types.size(); break;
    case Kind::kUndefined: got = is_reference ? 1 : 0; break;
    default: break;
  }
  if (a.name.empty()) return error(Code::kInvalidArgument, "the attribute's name is missing");
  if (is_reference || got == 1) return {};
  return error(Code::kInvalidArgument, "an attribute of type {} has {} values; expected 1", static_cast<int>(a.kind), got);
}

template <class Out>
Status Putter<Out>::attribute(const Attribute& a, int depth) {
  using F = field::Attribute;
  OCIOR_RETURN_IF_ERROR(check_single(a));
  text(F::kName, a.name);
  text(F::kDocString, a.doc);
  if (a.kind != Kind::kUndefined) number(F::kType, static_cast<int64_t>(a.kind));
  text(F::kRefAttrName, a.ref_attr_name);
  if (!a.ref_attr_name.empty()) return {};
  switch (a.kind) {
    case Kind::kFloat: out_.float32(F::kF, a.f); return {};
    case Kind::kInt: number(F::kI, a.i); return {};
    case Kind::kString: bytes(F::kS, a.s); return {};
    case Kind::kFloats:
      for (const float value : a.floats) out_.float32(F::kFloats, value);
      return {};
    case Kind::kInts: numbers(F::kInts, a.ints); return {};
    case Kind::kStrings: texts(F::kStrings, a.strings); return {};
    case Kind::kTensor: return tensors(F::kT, a.tensors);
    case Kind::kTensors: return tensors(F::kTensors, a.tensors);
    case Kind::kGraph: return graphs(F::kG, a.graphs, depth);
    case Kind::kGraphs: return graphs(F::kGraphs, a.graphs, depth);
    case Kind::kSparseTensor: return sparse_tensors(F::kSparseTensor, a.sparse_tensors);
    case Kind::kSparseTensors: return sparse_tensors(F::kSparseTensors, a.sparse_tensors);
    case Kind::kTypeProto: return types(F::kTp, a.types);
    case Kind::kTypeProtos: return types(F::kTypeProtos, a.types);
    case Kind::kUndefined: break;
  }
  return error(Code::kInvalidArgument, "attribute type {} is unknown", static_cast<int>(a.kind));
}

// The payload must be what the shape says, or the file could not be read again.
Status check_tensor(const Tensor& t) {
  OCIOR_ASSIGN(const DType dtype, checked_dtype(static_cast<int64_t>(t.dtype)));
  int64_t elements = 0;
  OCIOR_ASSIGN(const int64_t expected, payload_bytes(dtype, t.dims, elements));
  const bool is_string = dtype == DType::kString;
  const int64_t want = is_string ? elements : expected;
  const size_t got = is_string ? t.strings.size() : t.raw.size();
  if (static_cast<int64_t>(got) == want) return {};
  return error(Code::kInvalidArgument, "type {} and shape {} need {} {}, but it has {}", name_of(dtype), shape_text(t.dims), want,
               is_string ? "strings" : "bytes", got);
}

template <class Out>
Status Putter<Out>::tensor(const Tensor& t) {
  using F = field::Tensor;
  OCIOR_RETURN_IF_ERROR(check_tensor(t));
  numbers(F::kDims, t.dims);
  number(F::kDataType, static_cast<int64_t>(t.dtype));
  texts(F::kStringData, t.strings);
  text(F::kName, t.name);
  const auto outside = external_.offsets.find(&t);
  if (outside == external_.offsets.end() && t.dtype != DType::kString) out_.bytes(F::kRawData, t.raw);
  text(F::kDocString, t.doc);
  entries(F::kMetadataProps, t.metadata);
  if (outside == external_.offsets.end()) return {};
  entry(F::kExternalData, "location", external_.location);
  entry(F::kExternalData, "offset", std::to_string(outside->second));
  entry(F::kExternalData, "length", std::to_string(t.raw.size()));
  number(F::kDataLocation, 1);
  return {};
}

template <class Out>
Status Putter<Out>::sparse_tensor(const SparseTensor& sparse) {
  using F = field::SparseTensor;
  OCIOR_RETURN_IF_ERROR(out_.message(F::kValues, [&] { return tensor(sparse.values); }));
  OCIOR_RETURN_IF_ERROR(out_.message(F::kIndices, [&] { return tensor(sparse.indices); }));
  numbers(F::kDims, sparse.dims);
  return {};
}

template <class Out>
Status Putter<Out>::value_info(const ValueInfo& value) {
  using F = field::ValueInfo;
  text(F::kName, value.name);
  if (value.type.kind != Type::Kind::kNone) OCIOR_RETURN_IF_ERROR(out_.message(F::kType, [&] { return type(value.type, 1); }));
  text(F::kDocString, value.doc);
  entries(F::kMetadataProps, value.metadata);
  return {};
}

template <class Out>
Status Putter<Out>::type(const Type& t, int depth) {
  using F = field::Type;
  OCIOR_RETURN_IF_ERROR(check_depth(depth));
  switch (t.kind) {
    case Type::Kind::kNone: return {};
    case Type::Kind::kTensor: return out_.message(F::kTensorType, [&] { return tensor_type(t); });
    case Type::Kind::kSparseTensor: return out_.message(F::kSparseTensorType, [&] { return tensor_type(t); });
    default: break;
  }
  if (!t.element) return error(Code::kInvalidArgument, "the element type of a sequence, optional or map is missing");
  const bool is_map = t.kind == Type::Kind::kMap;
  if (is_map && t.dtype == DType::kUndefined) return error(Code::kInvalidArgument, "the key type of a map is missing");
  const uint32_t tag = is_map ? F::kMapType : t.kind == Type::Kind::kSequence ? F::kSequenceType : F::kOptionalType;
  return out_.message(tag, [&] {
    if (is_map) number(field::MapType::kKeyType, static_cast<int64_t>(t.dtype));
    return out_.message(is_map ? uint32_t{field::MapType::kValueType} : uint32_t{field::ElementType::kElemType},
                        [&] { return type(*t.element, depth + 1); });
  });
}

template <class Out>
Status Putter<Out>::tensor_type(const Type& t) {
  number(field::TensorType::kElemType, static_cast<int64_t>(t.dtype));
  if (!t.has_shape) return {};
  return out_.message(field::TensorType::kShape, [&] {
    return each(field::Shape::kDim, t.shape, "dimension", [&](const Dimension& dim) {
      if (dim.value >= 0) number(field::Dimension::kDimValue, dim.value);
      else text(field::Dimension::kDimParam, dim.param);
      return Status();
    });
  });
}

// The first run: checks the model and returns the message lengths; `total` receives the whole size.
Result<std::vector<uint64_t>> measure(const Model& model, const ExternalLayout& external, int64_t& total) {
  Sizer sizer;
  OCIOR_RETURN_IF_ERROR(Putter<Sizer>(sizer, external).model(model));
  total = static_cast<int64_t>(sizer.size());
  return sizer.take_sizes();
}

// The second run.
template <class Sink>
Status emit(const Model& model, const ExternalLayout& external, std::vector<uint64_t> sizes, Sink sink) {
  Emitter<Sink> emitter(std::move(sizes), std::move(sink));
  OCIOR_RETURN_IF_ERROR(Putter<Emitter<Sink>>(emitter, external).model(model));
  return emitter.status();
}

// Gives every large initializer, those of subgraphs included, a place in the data file.
void lay_out(const Graph& graph, int64_t& end, ExternalLayout& layout) {
  for (const Tensor& tensor : graph.initializers) {
    if (tensor.dtype == DType::kString || tensor.raw.size() < kExternalAtLeast) continue;
    const int64_t offset = (end + kExternalAlignment - 1) / kExternalAlignment * kExternalAlignment;
    layout.offsets[&tensor] = offset;
    layout.order.push_back(&tensor);
    end = offset + static_cast<int64_t>(tensor.raw.size());
  }
  for (const Node& node : graph.nodes)
    for (const Attribute& attribute : node.attributes)
      for (const auto& inner : attribute.graphs) lay_out(*inner, end, layout);
}

Status write_payloads(const ExternalLayout& layout, AtomicFile& file) {
  static constexpr std::byte kZeros[kExternalAlignment] = {};
  for (const Tensor* tensor : layout.order) {
    const int64_t gap = layout.offsets.at(tensor) - file.size();
    OCIOR_RETURN_IF_ERROR(file.write(std::span(kZeros, static_cast<size_t>(gap))));
    OCIOR_RETURN_IF_ERROR(file.write(tensor->raw));
  }
  return file.finish();
}

Status too_large(int64_t total) {
  return error(Code::kInvalidArgument, "its protobuf would take {} bytes; protobuf ends at {}", total, kProtobufLimit);
}

// Both files are safely on the disk and only renames are left. Two renames cannot be one step: a power cut between them leaves an
// older model of the same name with the new data. A refused second rename takes back data that was not there before.
Status commit_both(std::optional<AtomicFile>& data, AtomicFile& file) {
  if (!data) return file.commit();
  const bool is_new = access(data->path().c_str(), F_OK) != 0;
  OCIOR_RETURN_IF_ERROR(data->commit());
  Status status = file.commit();
  if (!status.ok() && is_new) unlink(data->path().c_str());
  return status;
}

Status write_checked(const Model& model, const std::string& path, const WriteOptions& options) {
  ExternalLayout layout;
  int64_t total = 0;
  OCIOR_ASSIGN(auto sizes, measure(model, layout, total));
  std::optional<AtomicFile> data;
  if (total >= options.external_threshold || total > kProtobufLimit) {
    layout.location = path.substr(path.rfind('/') + 1) + ".data";  // rfind gives npos, which is -1, for a bare name
    int64_t end = 0;
    lay_out(model.graph, end, layout);
    OCIOR_ASSIGN(sizes, measure(model, layout, total));
    if (total > kProtobufLimit) return too_large(total);
  }
  OCIOR_ASSIGN(AtomicFile file, AtomicFile::open(path));
  if (!layout.order.empty()) {
    OCIOR_ASSIGN(data, AtomicFile::open(path + ".data"));
    OCIOR_RETURN_IF_ERROR(write_payloads(layout, *data));
  }
  OCIOR_RETURN_IF_ERROR(emit(model, layout, std::move(sizes), [&](std::span<const std::byte> view) { return file.write(view); }));
  OCIOR_RETURN_IF_ERROR(file.finish());
  return commit_both(data, file);
}

}  // namespace

Status write_file(const Model& model, const std::string& path, const WriteOptions& options) {
  try {
    Status status = write_checked(model, path, options);
    return status.ok() || status.message().starts_with(path) ? status
                                                             : with_context(std::move(status), path + ": cannot write the model");
  } catch (const std::bad_alloc&) {
    return error(Code::kFail, "{}: not enough memory to write the model", path);
  }
}

Result<std::string> write_bytes(const Model& model) {
  try {
    int64_t total = 0;
    OCIOR_ASSIGN(auto sizes, measure(model, {}, total));
    if (total > kProtobufLimit) return too_large(total);
    std::string out;
    out.reserve(static_cast<size_t>(total));
    OCIOR_RETURN_IF_ERROR(emit(model, {}, std::move(sizes), [&](std::span<const std::byte> view) {
      out.append(reinterpret_cast<const char*>(view.data()), view.size());
      return Status();
    }));
    return out;
  } catch (const std::bad_alloc&) {
    return error(Code::kFail, "not enough memory to write the model");
  }
}

}  // namespace ocior::onnx
