#include "base/error.h"

#include <gtest/gtest.h>

namespace ocior {
namespace {

Result<int> half(int x) {
  if (x % 2) return error(Code::kInvalidArgument, "{} is odd; pass an even number", x);
  return x / 2;
}

Status quarter(int x, int& out) {
  OCIOR_ASSIGN(const int h, half(x));
  OCIOR_ASSIGN(out, half(h));
  return {};
}

TEST(Status, PropagatesValueAndError) {
  int out = 0;
  EXPECT_TRUE(quarter(8, out).ok());
  EXPECT_EQ(out, 2);
  const Status bad = quarter(6, out);
  EXPECT_EQ(bad.code(), Code::kInvalidArgument);
  EXPECT_EQ(bad.message(), "3 is odd; pass an even number");
  EXPECT_EQ(with_context(bad, "file.onnx").message(), "file.onnx: 3 is odd; pass an even number");
}

}  // namespace
}  // namespace ocior
