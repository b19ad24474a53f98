// Protobuf bytes → Model. Every length, count and nesting depth of the untrusted file is checked here, in read_tensor.cpp or in
// read_type.cpp. Malformed protobuf is thrown by protozero and turned into a Status by `nested`, at the innermost message, so
// that the error can name the way to it; no exception leaves this file.
#include <new>

#include "base/error.h"
#include "onnx/foreign_format.h"
#include "onnx/model.h"
#include "onnx/proto_fields.h"
#include "onnx/quote.h"
#include "onnx/read_tensor.h"
#include "onnx/read_type.h"
#include "onnx/wire.h"

namespace ocior::onnx {
namespace {

using Kind = Attribute::Kind;

// Runs `read` (of one message) and puts `label()` before what goes wrong in it.
template <class Read, class Label>
Status nested(Read read, Label label) {
  Status status;
  try {
    status = read();
  } catch (const protozero::end_of_buffer_exception&) {
    status = error(Code::kInvalidProtobuf, "the data ends in the middle of a field; the file is truncated or damaged");
  } catch (const protozero::exception& e) {
    status = error(Code::kInvalidProtobuf, "malformed protobuf ({}); the file is damaged or not an ONNX model", e.what());
  }
  return status.ok() ? status : with_context(std::move(status), label());
}

std::string normal_domain(std::string domain) { return domain == "ai.onnx" ? "" : domain; }

class Reader {
 public:
  Reader(const ReadLimits& limits, ExternalData external) : context_{limits, std::move(external)} {}

  Status model(Fields fields, Model& out);
  ExternalData& external() { return context_.external; }

 private:
  Status graph(Fields fields, int depth, Graph& out);
  Status node(Fields fields, int depth, Node& out);
  Status attribute(Fields fields, int depth, Attribute& out);
  Status attribute_value(Fields& fields, int depth, Attribute& out);
  Status function(Fields fields, Function& out);
  Status sparse_tensor(Fields fields, SparseTensor& out);
  Status value_info(Fields fields, ValueInfo& out);

  // Appends to `list` what `read` makes of the message that `fields` stands on; errors are labelled "<what> <index> <name>".
  template <class T, class Read>
  Status append(Fields& fields, std::vector<T>& list, std::string_view what, Read read) {
    OCIOR_RETURN_IF_ERROR(context_.take());
    const Fields message = fields.message();
    T& item = list.emplace_back();
    return nested([&] { return read(message, item); },
                  [&] {
                    if constexpr (requires { item.name; })
                      return fmt::format("{} {} {}", what, list.size() - 1, quoted(item.name));
                    else return fmt::format("{} {}", what, list.size() - 1);
                  });
  }
  Status append_node(Fields& fields, int depth, std::vector<Node>& list) {
    return append(fields, list, "node", [&, depth](Fields f, Node& item) { return node(f, depth, item); });
  }
  Status append_attribute(Fields& fields, int depth, std::vector<Attribute>& list) {
    return append(fields, list, "attribute", [&, depth](Fields f, Attribute& item) { return attribute(f, depth, item); });
  }
  Status append_tensor(Fields& fields, std::vector<Tensor>& list) {
    return append(fields, list, "tensor", [&](Fields f, Tensor& item) { return read_tensor(f, context_, item); });
  }
  Status append_sparse(Fields& fields, std::vector<SparseTensor>& list) {
    return append(fields, list, "sparse tensor", [&](Fields f, SparseTensor& item) { return sparse_tensor(f, item); });
  }
  Status append_value(Fields& fields, std::string_view what, std::vector<ValueInfo>& list) {
    return append(fields, list, what, [&](Fields f, ValueInfo& item) { return value_info(f, item); });
  }
  Status append_type(Fields& fields, std::vector<Type>& list) {
    return append(fields, list, "type", [&](Fields f, Type& item) { return read_type(f, context_, item); });
  }
  Status append_graph(Fields& fields, int depth, std::vector<std::shared_ptr<Graph>>& list) {
    return append(fields, list, "graph", [&, depth](Fields f, std::shared_ptr<Graph>& item) {
      item = std::make_shared<Graph>();
      return graph(f, depth + 1, *item);
    });
  }
  Status append_text(Fields& fields, std::vector<std::string>& list) {
    OCIOR_RETURN_IF_ERROR(context_.take());
    list.push_back(fields.text());
    return {};
  }
  Status append_entry(Fields& fields, std::vector<std::pair<std::string, std::string>>& list) {
    OCIOR_RETURN_IF_ERROR(context_.take());
    list.push_back(read_entry(fields.message()));
    return {};
  }
  Status append_opset(Fields& fields, std::vector<std::pair<std::string, int64_t>>& list);

  ReadContext context_;
};

Status Reader::append_opset(Fields& fields, std::vector<std::pair<std::string, int64_t>>& list) {
  OCIOR_RETURN_IF_ERROR(context_.take());
  auto& [domain, version] = list.emplace_back();
  for (Fields f = fields.message(); f.next();) switch (f.tag()) {
      case field::OperatorSetId::kDomain: domain = normal_domain(f.text()); break;
      case field::OperatorSetId::kVersion: version = f.int64(); break;
      default: f.skip();
    }
  return {};
}

Status Reader::model(Fields fields, Model& out) {
  using F = field::Model;
  bool has_graph = false;
  while (fields.next()) {
    Status status;
    switch (fields.tag()) {
      case F::kIrVersion: out.ir_version = fields.int64(); break;
      case F::kProducerName: out.producer_name = fields.text(); break;
      case F::kProducerVersion: out.producer_version = fields.text(); break;
      case F::kDomain: out.domain = fields.text(); break;
      case F::kModelVersion: out.model_version = fields.int64(); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kGraph: {
        if (has_graph) return error(Code::kInvalidProtobuf, "it holds two main graphs; expected one");
        has_graph = true;
        const Fields message = fields.message();
        status = nested([&] { return graph(message, 1, out.graph); }, [] { return "graph"; });
        break;
      }
      case F::kOpsetImport: status = append_opset(fields, out.opset_imports); break;
      case F::kMetadataProps: status = append_entry(fields, out.metadata); break;
      case F::kFunctions:
        status = append(fields, out.functions, "function", [&](Fields f, Function& item) { return function(f, item); });
        break;
      default: fields.skip();
    }
    OCIOR_RETURN_IF_ERROR(status);
  }
  if (!has_graph) return error(Code::kInvalidProtobuf, "it holds no graph, so it is not an ONNX model or it is truncated");
  return {};
}

Status Reader::graph(Fields fields, int depth, Graph& out) {
  using F = field::Graph;
  if (depth > context_.limits.max_depth)
    return error(Code::kInvalidGraph, "graphs are nested more than {} deep; raise ReadLimits::max_depth if the model is trusted",
                 context_.limits.max_depth);
  while (fields.next()) {
    Status status;
    switch (fields.tag()) {
      case F::kNode: status = append_node(fields, depth, out.nodes); break;
      case F::kName: out.name = fields.text(); break;
      case F::kInitializer: status = append_tensor(fields, out.initializers); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kInput: status = append_value(fields, "input", out.inputs); break;
      case F::kOutput: status = append_value(fields, "output", out.outputs); break;
      case F::kValueInfo: status = append_value(fields, "value info", out.value_info); break;
      case F::kSparseInitializer: status = append_sparse(fields, out.sparse_initializers); break;
      case F::kMetadataProps: status = append_entry(fields, out.metadata); break;
      default: fields.skip();
    }
    OCIOR_RETURN_IF_ERROR(status);
  }
  return {};
}

Status Reader::node(Fields fields, int depth, Node& out) {
  using F = field::Node;
  while (fields.next()) {
    Status status;
    switch (fields.tag()) {
      case F::kInput: status = append_text(fields, out.inputs); break;
      case F::kOutput: status = append_text(fields, out.outputs); break;
      case F::kName: out.name = fields.text(); break;
      case F::kOpType: out.op_type = fields.text(); break;
      case F::kAttribute: status = append_attribute(fields, depth, out.attributes); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kDomain: out.domain = normal_domain(fields.text()); break;
      case F::kOverload: out.overload = fields.text(); break;
      case F::kMetadataProps: status = append_entry(fields, out.metadata); break;
      default: fields.skip();
    }
    OCIOR_RETURN_IF_ERROR(status);
  }
  if (out.op_type.empty()) return error(Code::kInvalidGraph, "the operator's name (op_type) is missing");
  return {};
}

Status Reader::function(Fields fields, Function& out) {
  using F = field::Function;
  while (fields.next()) {
    Status status;
    switch (fields.tag()) {
      case F::kName: out.name = fields.text(); break;
      case F::kInput: status = append_text(fields, out.inputs); break;
      case F::kOutput: status = append_text(fields, out.outputs); break;
      case F::kAttribute: status = append_text(fields, out.attributes); break;
      case F::kNode: status = append_node(fields, 1, out.nodes); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kOpsetImport: status = append_opset(fields, out.opset_imports); break;
      case F::kDomain: out.domain = normal_domain(fields.text()); break;
      case F::kAttributeProto: status = append_attribute(fields, 1, out.attribute_defaults); break;
      case F::kValueInfo: status = append_value(fields, "value info", out.value_info); break;
      case F::kOverload: out.overload = fields.text(); break;
      case F::kMetadataProps: status = append_entry(fields, out.metadata); break;
      default: fields.skip();
    }
    OCIOR_RETURN_IF_ERROR(status);
  }
  if (out.name.empty()) return error(Code::kInvalidGraph, "the function's name is missing");
  return {};
}

// The kind of attribute that a value field makes; kUndefined for other fields.
Kind kind_of_field(uint32_t tag) {
  using F = field::Attribute;
  switch (tag) {
    case F::kF: return Kind::kFloat;
    case F::kI: return Kind::kInt;
    case F::kS: return Kind::kString;
    case F::kT: return Kind::kTensor;
    case F::kG: return Kind::kGraph;
    case F::kFloats: return Kind::kFloats;
    case F::kInts: return Kind::kInts;
    case F::kStrings: return Kind::kStrings;
    case F::kTensors: return Kind::kTensors;
    case F::kGraphs: return Kind::kGraphs;
    case F::kTp: return Kind::kTypeProto;
    case F::kTypeProtos: return Kind::kTypeProtos;
    case F::kSparseTensor: return Kind::kSparseTensor;
    case F::kSparseTensors: return Kind::kSparseTensors;
    default: return Kind::kUndefined;
  }
}

constexpr std::string_view kKindNames[] = {"undefined",      "float", "int",     "string",  "tensor", "graph",
                                           "floats",         "ints",  "strings", "tensors", "graphs", "sparse tensor",
                                           "sparse tensors", "type",  "types"};

std::string_view name_of(Kind kind) { return kKindNames[static_cast<int>(kind)]; }

// Settles the kind from what the file declares and from the value field it has (`found`, kUndefined for none).
Status settle_kind(int64_t declared, Kind found, Attribute& out) {
  if (out.name.empty()) return error(Code::kInvalidGraph, "the attribute's name is missing");
  if (declared < 0 || declared >= static_cast<int64_t>(std::size(kKindNames)))
    return error(Code::kInvalidGraph, "attribute type {} is unknown; this version knows 1 to {}", declared,
                 std::size(kKindNames) - 1);
  out.kind = declared ? static_cast<Kind>(declared) : found;  // files of IR version 1 declare none
  if (found != Kind::kUndefined && found != out.kind)
    return error(Code::kInvalidGraph, "it is declared as {} but has a value of kind {}", name_of(out.kind), name_of(found));
  if (!out.ref_attr_name.empty()) {
    if (found == Kind::kUndefined) return {};
    return error(Code::kInvalidGraph, "it refers to {} and also has a value; expected one of them", quoted(out.ref_attr_name));
  }
  if (out.kind == Kind::kUndefined) return error(Code::kInvalidGraph, "it has neither a type nor a value");
  const bool is_message =
      out.kind == Kind::kTensor || out.kind == Kind::kGraph || out.kind == Kind::kSparseTensor || out.kind == Kind::kTypeProto;
  if (is_message && found == Kind::kUndefined)
    return error(Code::kInvalidGraph, "it is declared as {} but has no value", name_of(out.kind));
  return {};  // numbers and lists without a field are zero and empty
}

Status Reader::attribute(Fields fields, int depth, Attribute& out) {
  using F = field::Attribute;
  int64_t declared = 0;
  Kind found = Kind::kUndefined;
  while (fields.next()) {
    const Kind kind = kind_of_field(fields.tag());
    if (kind != Kind::kUndefined) {
      const bool is_single =
          kind == Kind::kTensor || kind == Kind::kGraph || kind == Kind::kSparseTensor || kind == Kind::kTypeProto;
      if (found != Kind::kUndefined && (found != kind || is_single))
        return error(Code::kInvalidGraph, "it has values of kind {} and of kind {}; expected one value", name_of(found),
                     name_of(kind));
      found = kind;
      OCIOR_RETURN_IF_ERROR(attribute_value(fields, depth, out));
      continue;
    }
    switch (fields.tag()) {
      case F::kName: out.name = fields.text(); break;
      case F::kDocString: out.doc = fields.text(); break;
      case F::kRefAttrName: out.ref_attr_name = fields.text(); break;
      case F::kType: declared = fields.int32(); break;
      default: fields.skip();
    }
  }
  return settle_kind(declared, found, out);
}

Status Reader::attribute_value(Fields& fields, int depth, Attribute& out) {
  using F = field::Attribute;
  switch (fields.tag()) {
    case F::kF: out.f = fields.float32(); return {};
    case F::kI: out.i = fields.int64(); return {};
    case F::kS: out.s = fields.text(); return {};
    case F::kFloats: fields.append_floats(out.floats); return {};
    case F::kInts: fields.append_int64s(out.ints); return {};
    case F::kStrings: return append_text(fields, out.strings);
    case F::kT:
    case F::kTensors: return append_tensor(fields, out.tensors);
    case F::kG:
    case F::kGraphs: return append_graph(fields, depth, out.graphs);
    case F::kTp:
    case F::kTypeProtos: return append_type(fields, out.types);
    default: return append_sparse(fields, out.sparse_tensors);
  }
}

// Shape agreement only: whether indices ascend and lie inside is found where the values are used, not by touching them here.
Status check_sparse(const SparseTensor& sparse) {
  int64_t elements = 0;
  OCIOR_ASSIGN(const int64_t dense, payload_bytes(sparse.values.dtype, sparse.dims, elements));
  (void)dense;
  const auto& values = sparse.values.dims;
  const auto& indices = sparse.indices.dims;
  const auto rank = static_cast<int64_t>(sparse.dims.size());
  const bool fits = values.size() == 1 && sparse.indices.dtype == DType::kInt64 && !indices.empty() && indices.size() <= 2 &&
                    indices[0] == values[0] && (indices.size() == 1 || indices[1] == rank);
  if (fits) return {};
  return error(Code::kInvalidGraph,
               "values of shape {} do not go with indices of type {} and shape {} in a tensor of shape {}; "
               "expected values [n] and int64 indices [n] or [n, {}]",
               shape_text(values), name_of(sparse.indices.dtype), shape_text(indices), shape_text(sparse.dims), rank);
}

Status Reader::sparse_tensor(Fields fields, SparseTensor& out) {
  using F = field::SparseTensor;
  bool has_values = false, has_indices = false;
  while (fields.next()) {
    const uint32_t tag = fields.tag();
    if (tag == F::kDims) {
      fields.append_int64s(out.dims);
    } else if (tag == F::kValues || tag == F::kIndices) {
      bool& seen = tag == F::kValues ? has_values : has_indices;
      if (seen) return error(Code::kInvalidProtobuf, "it has its {} twice", tag == F::kValues ? "values" : "indices");
      seen = true;
      const Fields message = fields.message();
      OCIOR_RETURN_IF_ERROR(nested([&] { return read_tensor(message, context_, tag == F::kValues ? out.values : out.indices); },
                                   [&] { return tag == F::kValues ? "values" : "indices"; }));
    } else {
      fields.skip();
    }
  }
  if (!has_values || !has_indices) return error(Code::kInvalidGraph, "the {} are missing", has_values ? "indices" : "values");
  if (static_cast<int64_t>(out.dims.size()) > context_.limits.max_rank)
    return error(Code::kInvalidGraph, "it has {} dimensions; at most {} are allowed", out.dims.size(), context_.limits.max_rank);
  return check_sparse(out);
}

Status Reader::value_info(Fields fields, ValueInfo& out) {
  using F = field::ValueInfo;
  while (fields.next()) switch (fields.tag()) {
      case F::kName: out.name = fields.text(); break;
      case F::kType: {
        const Fields message = fields.message();
        OCIOR_RETURN_IF_ERROR(nested([&] { return read_type(message, context_, out.type); }, [] { return "type"; }));
        break;
      }
      case F::kDocString: out.doc = fields.text(); break;
      case F::kMetadataProps: OCIOR_RETURN_IF_ERROR(append_entry(fields, out.metadata)); break;
      default: fields.skip();
    }
  return {};
}

// `label` is the path or a word for bytes from memory.
Status read_into(std::span<const std::byte> bytes, const std::string& label, const ReadLimits& limits, ExternalData external,
                 Model& out) {
  if (bytes.empty()) return error(Code::kInvalidProtobuf, "{}: it is empty; expected an ONNX model", label);
  Status status;
  try {
    Reader reader(limits, std::move(external));
    status = nested([&] { return reader.model(Fields(bytes), out); }, [&] { return label; });
    for (const auto& file : reader.external().files()) out.files.push_back(file), out.storage.push_back(file);
  } catch (const std::bad_alloc&) {
    return error(Code::kFail, "{}: not enough memory to read the model", label);
  } catch (const std::exception& e) {
    return error(Code::kFail, "{}: reading failed: {}", label, e.what());
  }
  if (status.code() == Code::kInvalidProtobuf)
    if (const std::string_view what = describe_foreign(bytes); !what.empty())
      return error(Code::kInvalidProtobuf, "{}: {}", label, what);
  return status;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<Model> read_file(const std::string& path, const ReadLimits& limits) {
  OCIOR_ASSIGN(auto file, MappedFile::open(path));
  Model model;
  model.path = path;
  model.files.push_back(file);
  model.storage.push_back(file);
  const std::string real = path_of_descriptor(file->fd());
  OCIOR_RETURN_IF_ERROR(
      read_into(file->bytes(), path, limits, ExternalData(folder_of(path), real.empty() ? "" : folder_of(real)), model));
  return model;
}

Result<Model> read_bytes(std::span<const std::byte> bytes, std::shared_ptr<const void> keep, const std::string& folder,
                         const ReadLimits& limits) {
  Model model;
  if (keep) model.storage.push_back(std::move(keep));
  OCIOR_RETURN_IF_ERROR(read_into(bytes, "model in memory", limits, ExternalData(folder, ""), model));
  return model;
}

}  // namespace ocior::onnx
