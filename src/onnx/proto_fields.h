// Field numbers of onnx.proto (IR version 14), shared by reader and writer. Names follow the .proto file.
#pragma once

#include <cstdint>

namespace ocior::onnx::field {

struct Model {
  enum : uint32_t {
    kIrVersion = 1,
    kProducerName = 2,
    kProducerVersion = 3,
    kDomain = 4,
    kModelVersion = 5,
    kDocString = 6,
    kGraph = 7,
    kOpsetImport = 8,
    kMetadataProps = 14,
    kFunctions = 25,
  };
};
struct OperatorSetId {
  enum : uint32_t { kDomain = 1, kVersion = 2 };
};
struct StringStringEntry {
  enum : uint32_t { kKey = 1, kValue = 2 };
};
struct Graph {
  enum : uint32_t {
    kNode = 1,
    kName = 2,
    kInitializer = 5,
    kDocString = 10,
    kInput = 11,
    kOutput = 12,
    kValueInfo = 13,
    kSparseInitializer = 15,
    kMetadataProps = 16,
  };
};
struct Node {
  enum : uint32_t {
    kInput = 1,
    kOutput = 2,
    kName = 3,
    kOpType = 4,
    kAttribute = 5,
    kDocString = 6,
    kDomain = 7,
    kOverload = 8,
    kMetadataProps = 9,
  };
};
struct Attribute {
  enum : uint32_t {
    kName = 1,
    kF = 2,
    kI = 3,
    kS = 4,
    kT = 5,
    kG = 6,
    kFloats = 7,
    kInts = 8,
    kStrings = 9,
    kTensors = 10,
    kGraphs = 11,
    kDocString = 13,
    kTp = 14,
    kTypeProtos = 15,
    kType = 20,
    kRefAttrName = 21,
    kSparseTensor = 22,
    kSparseTensors = 23,
  };
};
struct Tensor {
  enum : uint32_t {
    kDims = 1,
    kDataType = 2,
    kSegment = 3,
    kFloatData = 4,
    kInt32Data = 5,
    kStringData = 6,
    kInt64Data = 7,
    kName = 8,
    kRawData = 9,
    kDoubleData = 10,
    kUint64Data = 11,
    kDocString = 12,
    kExternalData = 13,
    kDataLocation = 14,
    kMetadataProps = 16,
  };
};
struct SparseTensor {
  enum : uint32_t { kValues = 1, kIndices = 2, kDims = 3 };
};
struct ValueInfo {
  enum : uint32_t { kName = 1, kType = 2, kDocString = 3, kMetadataProps = 4 };
};
struct Type {
  enum : uint32_t { kTensorType = 1, kSequenceType = 4, kMapType = 5, kOpaqueType = 7, kSparseTensorType = 8, kOptionalType = 9 };
};
struct TensorType {
  enum : uint32_t { kElemType = 1, kShape = 2 };
};
struct ElementType {
  enum : uint32_t { kElemType = 1 };
};  // Sequence, Optional
struct MapType {
  enum : uint32_t { kKeyType = 1, kValueType = 2 };
};
struct Shape {
  enum : uint32_t { kDim = 1 };
};
struct Dimension {
  enum : uint32_t { kDimValue = 1, kDimParam = 2 };
};
struct Function {
  enum : uint32_t {
    kName = 1,
    kInput = 4,
    kOutput = 5,
    kAttribute = 6,
    kNode = 7,
    kDocString = 8,
    kOpsetImport = 9,
    kDomain = 10,
    kAttributeProto = 11,
    kValueInfo = 12,
    kOverload = 13,
    kMetadataProps = 14,
  };
};

}  // namespace ocior::onnx::field
