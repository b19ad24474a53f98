// Operators on the bits of integers: BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift; and BitCast, on those of any type.
#include <cstring>

#include "ops/math/binary.h"
#include "ops/math/unary.h"
#include "ops/move.h"

namespace ocior::ops {
namespace {

struct BitAndFormula {
  template <class C>
  static C apply(C a, C b) {
    return a & b;
  }
};
struct BitOrFormula {
  template <class C>
  static C apply(C a, C b) {
    return a | b;
  }
};
struct BitXorFormula {
  template <class C>
  static C apply(C a, C b) {
    return a ^ b;
  }
};
struct BitNotFormula {
  template <class C>
  static C apply(C x) {
    return ~x;
  }
};

// Elements are computed in 64 bits, extended by their sign, and stored as their low bits: a shift by the width of the type or
// more, but below 64, needs no care. A distance outside of [0, 64) shifts everything out.
template <class C>
bool shifts_all(C distance) {
  return static_cast<uint64_t>(distance) >= 64;
}
struct LeftFormula {
  template <class C>
  static C apply(C x, C distance) {
    return shifts_all(distance) ? 0 : static_cast<C>(static_cast<uint64_t>(x) << distance);
  }
};
struct RightFormula {
  template <class C>
  static C apply(C x, C distance) {
    if (shifts_all(distance)) return x < 0 ? static_cast<C>(-1) : 0;
    return x >> distance;
  }
};

template <class F>
constexpr BinarySpec bits_spec(std::string_view name) {
  BinarySpec spec{.name = name, .types = kInts};
  spec.integer = &binary_strip<F, int64_t>;
  spec.natural = &binary_strip<F, uint64_t>;
  return spec;
}

const std::initializer_list<DType> kIntTypes = {DType::kInt8,  DType::kInt16,  DType::kInt32,  DType::kInt64,
                                                DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64};

std::vector<Sample> bits_samples() {
  auto out = binary_samples(kIntTypes);
  std::erase_if(out, [](const Sample& s) { return s.opset != 0; });
  return out;
}

}  // namespace

struct BitwiseAnd : Binary<BitwiseAnd> {
  static constexpr OpInfo info{.name = "BitwiseAnd", .since = 18, .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = bits_spec<BitAndFormula>("BitwiseAnd");
  static std::vector<Sample> samples() { return bits_samples(); }
};
OCIOR_OPERATOR(BitwiseAnd)

struct BitwiseOr : Binary<BitwiseOr> {
  static constexpr OpInfo info{.name = "BitwiseOr", .since = 18, .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = bits_spec<BitOrFormula>("BitwiseOr");
  static std::vector<Sample> samples() { return bits_samples(); }
};
OCIOR_OPERATOR(BitwiseOr)

struct BitwiseXor : Binary<BitwiseXor> {
  static constexpr OpInfo info{.name = "BitwiseXor", .since = 18, .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec spec = bits_spec<BitXorFormula>("BitwiseXor");
  static std::vector<Sample> samples() { return bits_samples(); }
};
OCIOR_OPERATOR(BitwiseXor)

struct BitwiseNot : Unary<BitwiseNot> {
  static constexpr OpInfo info{.name = "BitwiseNot", .since = 18, .in_place = 1};
  static constexpr UnarySpec spec{.name = "BitwiseNot",
                                  .types = kInts,
                                  .integer = &unary_strip<BitNotFormula, int64_t>,
                                  .natural = &unary_strip<BitNotFormula, uint64_t>};
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : kIntTypes)
      for (const Shape& shape : {Shape{2, 3, 5}, Shape{}, Shape{0, 4}, Shape{700}}) out.push_back({.inputs = {{t, shape}}});
    return out;
  }
};
OCIOR_OPERATOR(BitwiseNot)

// x shifted by y bits, to the LEFT or RIGHT; to the right negative numbers keep their sign.
struct BitShift {
  static constexpr OpInfo info{.name = "BitShift", .since = 11, .min_inputs = 2, .max_inputs = 2, .in_place = 3};
  static constexpr BinarySpec left = bits_spec<LeftFormula>("BitShift"), right = bits_spec<RightFormula>("BitShift");
  const BinarySpec* spec = &left;

  static BitShift parse(const NodeReader& node) {
    const std::string direction = node.text("direction", "");
    if (direction != "LEFT" && direction != "RIGHT") node.fail("direction is '{}'; expected 'LEFT' or 'RIGHT'", direction);
    return {direction == "RIGHT" ? &right : &left};
  }
  Status infer(ShapeContext& c) const { return binary_infer(*spec, {}, c); }
  Status reference(RefContext& c) const { return binary_reference(*spec, {}, c); }
  Status run(CpuContext& c) const { return binary_run(*spec, {}, c); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* direction : {"LEFT", "RIGHT"}) {
      for (const DType t : kIntTypes)
        out.push_back({.inputs = {{t, {3, 9}, Fill::kZeros, {1,  2, 3, 100, 127, 64, 5, 7,   0,   1,  2, 3, 100, 127,
                                                             64, 5, 7, 0,   1,   2,  3, 100, 127, 64, 5, 7, 0}},
                                  {t, {9}, Fill::kZeros, {0, 1, 2, 7, 8, 31, 33, 64, 100}}},
                       .attributes = {{"direction", std::string(direction)}}});
      for (const DType t : {DType::kInt8, DType::kInt32, DType::kInt64})
        out.push_back({.inputs = {{t, {5}, Fill::kZeros, {-1, -128, -7, 5, -3}}, {t, {5}, Fill::kZeros, {1, 7, 127, -1, -1}}},
                       .attributes = {{"direction", std::string(direction)}}});
    }
    return out;
  }
};
OCIOR_OPERATOR(BitShift)

// The same bits as elements of another type of the same width.
struct BitCast {
  static constexpr OpInfo info{.name = "BitCast", .since = 26};
  DType to = DType::kUndefined;

  static BitCast parse(const NodeReader& node) {
    const int64_t number = node.required_integer("to");
    BitCast op;
    if (number > 0 && number < kDTypeCount) op.to = static_cast<DType>(number);
    if (bits_of(op.to) == 0 && node.status().ok()) node.fail("attribute 'to' is {}, which is no type of a fixed width", number);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kAnyType, "BitCast"));
    const DType from = c.dtype(0);
    if (from != DType::kUndefined && bits_of(from) != bits_of(to))
      return error(Code::kInvalidGraph, "BitCast: from {} to {}; expected types of the same width", name_of(from), name_of(to));
    c.set(0, to, c.shape(0));
    return {};
  }

  Status reference(RefContext& c) const {
    if (const size_t bytes = c.in(0).bytes()) std::memcpy(c.out(0).data(), c.in(0).data(), bytes);
    return {};
  }

  Status run(CpuContext& c) const {
    const auto bytes = static_cast<int64_t>(byte_count(to, c.in(0).count()));
    for_items(c, bytes, 1, [&](int64_t begin, int64_t end) {
      std::memcpy(c.out(0).as<std::byte>() + begin, c.in(0).as<const std::byte>() + begin, static_cast<size_t>(end - begin));
    });
    return {};
  }

  static std::vector<Sample> samples() {
    const std::pair<DType, DType> pairs[] = {{DType::kFloat, DType::kInt32},      {DType::kInt32, DType::kFloat},
                                             {DType::kUint64, DType::kDouble},    {DType::kComplex64, DType::kInt64},
                                             {DType::kBFloat16, DType::kFloat16}, {DType::kInt8, DType::kFloat8E5M2},
                                             {DType::kInt4, DType::kFloat4E2M1},  {DType::kUint2, DType::kInt2},
                                             {DType::kBool, DType::kUint8},       {DType::kComplex128, DType::kComplex128}};
    std::vector<Sample> out;
    for (const auto& [from, to] : pairs)
      for (const Shape& shape : {Shape{3, 5}, Shape{}, Shape{0, 2}})
        out.push_back({.inputs = {{from, shape, from == DType::kBool ? Fill::kBools : Fill::kSmallInts}},
                       .attributes = {{"to", static_cast<int64_t>(to)}}});
    out.push_back({.inputs = {{DType::kFloat, {300, 400}}}, .attributes = {{"to", int64_t{6}}}});
    return out;
  }
};
OCIOR_OPERATOR(BitCast)

}  // namespace ocior::ops
