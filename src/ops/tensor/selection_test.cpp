// ScatterElements, TensorScatter, Compress, TopK, Unique and ReverseSequence: what samples cannot say, errors above all.
#include <cmath>
#include <limits>

#include "ops/test_call.h"

namespace ocior::ops {
namespace {

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();

Tensor floats(Shape shape) {
  const auto n = static_cast<size_t>(element_count(shape));
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(i);
  return tensor_of<float>(std::move(shape), values);
}
Tensor ints(Shape shape, const std::vector<int64_t>& values) { return tensor_of<int64_t>(std::move(shape), values); }

TEST(ScatterElements, WrongIndicesAndShapesAreErrors) {
  for (const int64_t index : {int64_t{3}, int64_t{-4}, kHuge, kLeast})
    EXPECT_NE(failure("ScatterElements", {}, {floats({3, 2}), ints({1, 1}, {index}), floats({1, 1})}).find("out of range"),
              std::string::npos);
  failure("ScatterElements", {{"axis", int64_t{2}}}, {floats({3, 2}), ints({1, 1}, {0}), floats({1, 1})});
  failure("ScatterElements", {{"axis", kLeast}}, {floats({3, 2}), ints({1, 1}, {0}), floats({1, 1})});
  failure("ScatterElements", {}, {floats({3, 2}), ints({1, 3}, {0, 0, 0}), floats({1, 3})});
  failure("ScatterElements", {}, {floats({3, 2}), ints({1, 2}, {0, 0}), floats({2, 2})});
  failure("ScatterElements", {}, {floats({3, 2}), ints({1}, {0}), floats({1})});
  failure("ScatterElements", {}, {floats({}), ints({}, {0}), floats({})});
  failure("ScatterElements", {{"reduction", std::string("max")}}, {floats({3}), ints({1}, {0}), floats({1})}, 1, 16);
  failure("ScatterElements", {{"reduction", std::string("add")}}, {floats({3}), ints({1}, {0}), floats({1})}, 1, 13);
}

TEST(ScatterElements, NanStaysInMaximaAndMinima) {
  const float nan = std::nanf("");
  for (const char* how : {"max", "min"}) {
    const auto out = call("ScatterElements", {{"reduction", std::string(how)}},
                          {tensor_of<float>({2}, {nan, 1}), ints({2}, {0, 1}), tensor_of<float>({2}, {1, nan})});
    EXPECT_TRUE(std::isnan((*out)[0].as<float>()[0]) && std::isnan((*out)[0].as<float>()[1])) << how;
  }
}

TEST(TensorScatter, EntriesMustFit) {
  for (const int64_t first : {int64_t{-1}, int64_t{4}, kHuge})
    failure("TensorScatter", {{"axis", int64_t{1}}}, {floats({1, 5}), floats({1, 2}), ints({1}, {first})});
  failure("TensorScatter", {{"axis", int64_t{0}}}, {floats({1, 5}), floats({1, 2})});
  failure("TensorScatter", {{"axis", int64_t{1}}}, {floats({1, 5}), floats({1, 6})});
  failure("TensorScatter", {{"axis", int64_t{1}}}, {floats({1, 5}), floats({2, 5})});
  failure("TensorScatter", {{"axis", int64_t{1}}}, {floats({2, 5}), floats({2, 5}), ints({1}, {0})});
  failure("TensorScatter", {{"mode", std::string("spiral")}}, {floats({1, 5}), floats({1, 2})});
  const auto out = call("TensorScatter", {{"axis", int64_t{1}}, {"mode", std::string("circular")}},
                        {floats({1, 5}), floats({1, 2}), ints({1}, {kHuge - 3})});
  EXPECT_EQ(values_of<float>((*out)[0]), (std::vector<float>{1, 1, 2, 3, 0}));  // kHuge - 3 is 4 modulo 5
}

TEST(Compress, TrueBeyondTheEndIsAnError) {
  failure("Compress", {{"axis", int64_t{0}}}, {floats({2, 2}), tensor_of<bool>({3}, {false, true, true})});
  failure("Compress", {{"axis", int64_t{2}}}, {floats({2, 2}), tensor_of<bool>({1}, {true})});
  failure("Compress", {}, {floats({2, 2}), tensor_of<bool>({1, 1}, {true})});
  EXPECT_TRUE(call("Compress", {{"axis", int64_t{0}}}, {floats({2, 2}), tensor_of<bool>({3}, {false, true, false})}).ok());
}

TEST(TopK, EqualElementsKeepTheirOrderAndNanIsLargest) {
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x{0.0f, -0.0f, nan, inf, -inf, 1, 1, nan};
  const auto indices = [&](int64_t largest) {
    const auto out = call("TopK", {{"largest", largest}}, {tensor_of<float>({8}, x), ints({1}, {8})}, 2);
    return values_of<int64_t>((*out)[1]);
  };
  EXPECT_EQ(indices(1), (std::vector<int64_t>{2, 7, 3, 5, 6, 0, 1, 4}));
  EXPECT_EQ(indices(0), (std::vector<int64_t>{4, 0, 1, 5, 6, 3, 2, 7}));
}

TEST(TopK, WrongCountsAreErrors) {
  for (const int64_t k : {int64_t{-1}, int64_t{5}, kHuge, kLeast}) {
    failure("TopK", {}, {floats({2, 4}), ints({1}, {k})}, 2);
    failure("TopK", {{"k", k}}, {floats({2, 4})}, 2, 1);
  }
  failure("TopK", {}, {floats({2, 4}), ints({2}, {1, 1})}, 2);
  failure("TopK", {}, {floats({2, 4})}, 2);
  failure("TopK", {}, {floats({}), ints({1}, {0})}, 2);
  failure("TopK", {{"axis", int64_t{-3}}}, {floats({2, 4}), ints({1}, {1})}, 2);
  failure("TopK", {{"largest", int64_t{0}}}, {floats({2, 4}), ints({1}, {1})}, 2, 10);
}

TEST(Unique, NansAreOneValueAfterAllNumbers) {
  const float nan = std::nanf("");
  const auto out = call("Unique", {}, {tensor_of<float>({5}, {nan, 2, -1, nan, 2})}, 4);
  EXPECT_EQ(values_of<int64_t>((*out)[1]), (std::vector<int64_t>{2, 1, 0}));
  EXPECT_EQ(values_of<int64_t>((*out)[2]), (std::vector<int64_t>{2, 1, 0, 2, 1}));
  EXPECT_EQ(values_of<int64_t>((*out)[3]), (std::vector<int64_t>{1, 2, 2}));
  failure("Unique", {{"axis", int64_t{1}}}, {floats({5})});
}

TEST(ReverseSequence, LengthsBeyondTheTimeAreErrors) {
  for (const int64_t length : {int64_t{-1}, int64_t{4}, kHuge})
    failure("ReverseSequence", {}, {floats({3, 1}), ints({1}, {length})});
  failure("ReverseSequence", {}, {floats({3, 2}), ints({1}, {1})});
  failure("ReverseSequence", {}, {floats({3}), ints({1}, {1})});
  failure("ReverseSequence", {{"batch_axis", int64_t{1}}, {"time_axis", int64_t{1}}}, {floats({3, 1}), ints({1}, {1})});
  failure("ReverseSequence", {{"batch_axis", int64_t{2}}, {"time_axis", int64_t{0}}}, {floats({3, 1, 1}), ints({1}, {1})});
}

}  // namespace
}  // namespace ocior::ops
