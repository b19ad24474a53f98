#include "onnx/read_value.h"

#include <limits>

#include "base/error.h"
#include "base/mapped_file.h"
#include "onnx/import_graph.h"
#include "onnx/read_tensor.h"

namespace ocior::onnx {
namespace {

// onnx.proto, SequenceProto and OptionalProto.
enum : uint32_t { kSequenceTensors = 3, kSequenceSequences = 5, kOptionalTensor = 3, kOptionalSequence = 5 };

class Reader {
 public:
  Reader() : context_{limits_, ExternalData(), 0} {}

  Result<Value> value(Fields fields, Value::Kind kind, Value::Kind element) {
    switch (kind) {
      case Value::Kind::kTensor: return tensor(fields);
      case Value::Kind::kSequence: return sequence(fields);
      case Value::Kind::kOptional: return optional(fields, element);
      default: return error(Code::kNotImplemented, "only tensors, sequences and optionals are read");
    }
  }

 private:
  Result<Value> tensor(Fields fields) {
    Tensor proto;
    OCIOR_RETURN_IF_ERROR(read_tensor(fields, context_, proto));
    OCIOR_ASSIGN(ocior::Tensor out, import_tensor(proto, Model{}, std::numeric_limits<size_t>::max()));
    return Value(std::move(out));
  }

  Result<Value> sequence(Fields fields) {
    std::vector<Value> elements;
    while (fields.next()) {
      if (fields.tag() != kSequenceTensors && fields.tag() != kSequenceSequences) {
        fields.skip();
        continue;
      }
      if (fields.tag() == kSequenceSequences)
        return error(Code::kNotImplemented, "sequences of sequences are not read, only those of tensors");
      OCIOR_RETURN_IF_ERROR(context_.take());
      OCIOR_ASSIGN(Value element, tensor(fields.message()));
      elements.push_back(std::move(element));
    }
    return Value::sequence(std::move(elements));
  }

  Result<Value> optional(Fields fields, Value::Kind element) {
    const uint32_t wanted = element == Value::Kind::kSequence ? kOptionalSequence : kOptionalTensor;
    Value inside;
    while (fields.next()) {
      if (fields.tag() != wanted) {
        fields.skip();
        continue;
      }
      OCIOR_ASSIGN(inside, value(fields.message(), element, Value::Kind::kTensor));
    }
    return Value::optional(std::move(inside));
  }

  const ReadLimits limits_;
  ReadContext context_;
};

}  // namespace

Result<Value> read_value_file(const std::string& path, Value::Kind kind, Value::Kind element) {
  OCIOR_ASSIGN(const auto file, MappedFile::open(path));
  Result<Value> out = error(Code::kInvalidProtobuf, "{}: is no ONNX value: the protobuf is broken", path);
  try {
    out = Reader().value(Fields(file->bytes()), kind, element);
    if (!out.ok()) return with_context(out.status(), path);
  } catch (const protozero::exception&) {  // said above
  } catch (const std::bad_alloc&) {
    return error(Code::kFail, "{}: there is not enough memory to read it", path);
  }
  return out;
}

}  // namespace ocior::onnx
