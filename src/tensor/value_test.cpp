// Tests of values that are no tensors: what they hold, and what a map refuses.
#include "ocior/value.h"

#include <gtest/gtest.h>

#include "tensor/tensor.h"

namespace ocior {
namespace {

Value numbers(std::initializer_list<float> values) {
  return Value(Tensor::of<float>({static_cast<int64_t>(values.size())}, values));
}

TEST(Value, NothingHoldsNothing) {
  EXPECT_EQ(Value().kind(), Value::Kind::kNone);
  EXPECT_TRUE(Value().elements().empty());
  EXPECT_TRUE(numbers({1}).elements().empty());
}

TEST(Value, SequencesShareTheirElements) {
  const Value one = numbers({1, 2});
  const Value sequence = Value::sequence({one, Value::sequence({})});
  EXPECT_EQ(sequence.kind(), Value::Kind::kSequence);
  ASSERT_EQ(sequence.elements().size(), 2u);
  EXPECT_EQ(sequence.elements()[0].data(), one.data());
  EXPECT_EQ(sequence.elements()[1].kind(), Value::Kind::kSequence);
}

TEST(Value, OptionalsHoldOneOrNothing) {
  EXPECT_EQ(Value::optional(Value()).kind(), Value::Kind::kOptional);
  EXPECT_TRUE(Value::optional(Value()).elements().empty());
  EXPECT_EQ(Value::optional(numbers({1})).elements().size(), 1u);
}

TEST(Value, MapsHaveAsManyKeysAsValues) {
  const Value keys(Tensor::of<int64_t>({2}, {7, -7}));
  const auto map = Value::map(keys, numbers({1, 2}));
  ASSERT_TRUE(map.ok()) << map.status().message();
  EXPECT_EQ(map->kind(), Value::Kind::kMap);
  EXPECT_EQ(map->elements()[0].dtype(), DType::kInt64);
  EXPECT_FALSE(Value::map(keys, numbers({1})).ok());
  EXPECT_FALSE(Value::map(numbers({1, 2}), numbers({1, 2})).ok());
  EXPECT_FALSE(Value::map(keys, Value::sequence({})).ok());
}

}  // namespace
}  // namespace ocior
