// The wire format as plain structs: what onnx.proto says, with tensor payloads as spans. No operator semantics.
// `read` fills a Model whose spans point into the file's bytes (which Model keeps alive); `write` turns a Model into a file.
// The checkpoint converter builds a Model by hand; import_graph turns a Model into a Graph. Not thread-safe while being built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "ocior/dtype.h"
#include "ocior/status.h"

namespace ocior::onnx {

// One tensor of the file. Exactly one of raw, strings and external holds the payload (none when it has no elements).
// Typed fields (float_data, int32_data, …) are normalised by the reader to `raw`: little-endian, dense, sub-byte types packed as
// ONNX says. `raw` starts wherever the file has it: it need not be aligned to its element; read it with memcpy or copy it first.
struct Tensor {
  std::string name;
  std::string doc;
  DType dtype = DType::kUndefined;
  std::vector<int64_t> dims;       // all >= 0, element count checked against the payload by the reader
  std::span<const std::byte> raw;  // into the file, an external file, or `owned`
  std::shared_ptr<const std::vector<std::byte>> owned;
  std::vector<std::string> strings;  // dtype kString only
  std::vector<std::pair<std::string, std::string>> metadata;
};

struct SparseTensor {
  Tensor values;   // shape [nnz]
  Tensor indices;  // int64, shape [nnz] or [nnz, rank]
  std::vector<int64_t> dims;
};

struct Dimension {
  int64_t value = -1;  // >= 0 when known
  std::string param;   // symbolic name, may be empty
};

struct Type {
  enum class Kind { kNone, kTensor, kSparseTensor, kSequence, kOptional, kMap };
  Kind kind = Kind::kNone;
  DType dtype = DType::kUndefined;  // element type; key type for maps
  bool has_shape = false;
  std::vector<Dimension> shape;
  std::shared_ptr<Type> element;  // sequence, optional: element; map: value
};

struct ValueInfo {
  std::string name;
  Type type;
  std::string doc;
  std::vector<std::pair<std::string, std::string>> metadata;
};

struct Graph;

struct Attribute {
  // onnx.proto AttributeProto.AttributeType
  enum class Kind {
    kUndefined = 0,
    kFloat = 1,
    kInt = 2,
    kString = 3,
    kTensor = 4,
    kGraph = 5,
    kFloats = 6,
    kInts = 7,
    kStrings = 8,
    kTensors = 9,
    kGraphs = 10,
    kSparseTensor = 11,
    kSparseTensors = 12,
    kTypeProto = 13,
    kTypeProtos = 14,
  };
  std::string name;
  std::string ref_attr_name;  // inside functions only
  std::string doc;
  Kind kind = Kind::kUndefined;
  float f = 0;
  int64_t i = 0;
  std::string s;
  std::vector<float> floats;
  std::vector<int64_t> ints;
  std::vector<std::string> strings;
  std::vector<Tensor> tensors;                 // kTensor: one
  std::vector<SparseTensor> sparse_tensors;    // kSparseTensor: one
  std::vector<std::shared_ptr<Graph>> graphs;  // kGraph: one
  std::vector<Type> types;                     // kTypeProto: one
};

struct Node {
  std::string name;
  std::string op_type;
  std::string domain;  // "" is ai.onnx ("ai.onnx" is normalised to "")
  std::string overload;
  std::string doc;
  std::vector<std::string> inputs;  // "" marks an omitted optional input
  std::vector<std::string> outputs;
  std::vector<Attribute> attributes;
  std::vector<std::pair<std::string, std::string>> metadata;
};

struct Graph {
  std::string name;
  std::string doc;
  std::vector<Node> nodes;
  std::vector<Tensor> initializers;
  std::vector<SparseTensor> sparse_initializers;
  std::vector<ValueInfo> inputs, outputs, value_info;
  std::vector<std::pair<std::string, std::string>> metadata;
};

struct Function {
  std::string name, domain, overload, doc;
  std::vector<std::string> inputs, outputs, attributes;
  std::vector<Attribute> attribute_defaults;
  std::vector<Node> nodes;
  std::vector<std::pair<std::string, int64_t>> opset_imports;
  std::vector<ValueInfo> value_info;
  std::vector<std::pair<std::string, std::string>> metadata;
};

struct Model {
  int64_t ir_version = 0;
  std::string producer_name, producer_version, domain, doc;
  int64_t model_version = 0;
  std::vector<std::pair<std::string, int64_t>> opset_imports;  // (domain, version)
  std::vector<std::pair<std::string, std::string>> metadata;
  Graph graph;
  std::vector<Function> functions;
  std::vector<std::shared_ptr<const void>> storage;      // keeps the bytes behind the spans alive
  std::vector<std::shared_ptr<const MappedFile>> files;  // the mapped files among them: the model first, then external data
  std::string path;                                      // "" when read from memory; for messages and external data
};

// Limits on what an untrusted file may ask for.
struct ReadLimits {
  int max_depth = 64;                    // nesting of graphs and types
  int max_rank = 64;                     // dimensions of one tensor or type
  int64_t max_items = int64_t{1} << 24;  // nodes, attributes, tensors, values, names, dimensions, … of the whole model
  int64_t max_tensor_bytes = int64_t{1} << 40;
};

// Reads and checks a model file; external data is opened below the model's folder only. Errors name the file and the field:
// kNoSuchFile (the model or its external data), kInvalidArgument (a folder, pipe or device), kInvalidProtobuf (not an ONNX model,
// truncated), kInvalidGraph (payloads that do not fit their shapes, forbidden external data, contradictions, limits exceeded),
// kFail. The file is mapped, and payload pages are not touched: time and memory follow the graph, not the weights. A mapped file
// that another process cuts short kills the reader with SIGBUS, so whoever keeps tensors beyond the load copies them out of the
// spans. Not kept, because nothing runs on it: training info, quantisation annotations, device configurations, denotations,
// opaque types.
Result<Model> read_file(const std::string& path, const ReadLimits& limits = {});
// The same from memory. `bytes` must outlive the Model unless `keep` owns them. `folder` is where external data may lie (""
// refuses it).
Result<Model> read_bytes(std::span<const std::byte> bytes, std::shared_ptr<const void> keep, const std::string& folder = "",
                         const ReadLimits& limits = {});

struct WriteOptions {
  int64_t external_threshold =
      int64_t{1} << 31;  // a model whose protobuf would reach this size gets its tensors >= 1 KiB in `<name>.data`
};
// Writes atomically (temporary file beside the target, fsync, rename; nothing is left behind on failure, disk-full included).
Status write_file(const Model& model, const std::string& path, const WriteOptions& options = {});
// Serialised ModelProto; fails above 2 GiB.
Result<std::string> write_bytes(const Model& model);

}  // namespace ocior::onnx
