// Tests of Dim: one normal form for equal polynomials, exact quotients, names for what is no polynomial, numbers at the edge of
// 63 bits.
#include <gtest/gtest.h>

#include "tensor/dim.h"

namespace ocior {
namespace {

const Dim b = Dim::symbol("b"), s = Dim::symbol("s");

TEST(Dim, EqualPolynomialsHaveOneNormalForm) {
  EXPECT_EQ((b + 1) * (s + 1), s * b + b + 1 + s);
  EXPECT_EQ((b + s) * (b - s), b * b - s * s);
  EXPECT_EQ(b * 12 - b * 12, Dim(0));
  EXPECT_TRUE((b - b + 7).known());
  EXPECT_EQ((b - b + 7).value(), 7);
  EXPECT_FALSE(b == s);
  EXPECT_FALSE(b == b * b);
  EXPECT_FALSE(b == Dim(1));
  EXPECT_EQ(b * 0, Dim(0));
}

TEST(Dim, TextPutsTheConstantLast) {
  EXPECT_EQ((Dim(1) + b * 12).text(), "12*b + 1");
  EXPECT_EQ((b - 3).text(), "b - 3");
  EXPECT_EQ((Dim(0) - b).text(), "-b");
  EXPECT_EQ((s * b).text(), "b*s");
  EXPECT_EQ(Dim(-4).text(), "-4");
  EXPECT_EQ(to_string(Dims{b, 2, s + 1}), "[b, 2, s + 1]");
  EXPECT_EQ(to_string(Dims{}), "[]");
}

TEST(Dim, QuotientIsExactWhereThePolynomialDivides) {
  EXPECT_EQ(Dim::quotient(b * s * 768, s * 64), b * 12);
  EXPECT_EQ(Dim::quotient(b * 4 + 8, 4), b + 2);
  EXPECT_EQ(Dim::quotient(b + s, b + s), Dim(1));
  EXPECT_EQ(Dim::quotient(7, 2), Dim(3));
  EXPECT_EQ(Dim::quotient(-7, 2), Dim(-3));  // truncates
  EXPECT_EQ(Dim::quotient(0, b), Dim(0));
}

TEST(Dim, InexactQuotientIsASymbolThatEqualsItself) {
  const Dim q = Dim::quotient(b + 1, 2);
  EXPECT_FALSE(q.known());
  EXPECT_EQ(q.text(), "(b + 1)/(2)");
  EXPECT_EQ(q, Dim::quotient(Dim(1) + b, 2));
  EXPECT_FALSE(q == Dim::quotient(b + 2, 3));
  EXPECT_EQ(q.single_symbol(), "(b + 1)/(2)");
  EXPECT_FALSE(Dim::quotient(b, 0).known());
  EXPECT_FALSE(Dim::quotient(5, 0).known());
}

TEST(Dim, MaxAndMinDoNotCareForTheOrder) {
  EXPECT_EQ(Dim::max(3, 5), Dim(5));
  EXPECT_EQ(Dim::min(3, 5), Dim(3));
  EXPECT_EQ(Dim::max(b, b), b);
  EXPECT_EQ(Dim::max(b, s), Dim::max(s, b));
  EXPECT_EQ(Dim::min(b, s).text(), "min(b, s)");
  EXPECT_FALSE(Dim::max(b, s) == Dim::min(b, s));
}

TEST(Dim, SingleSymbol) {
  EXPECT_EQ(b.single_symbol(), "b");
  EXPECT_EQ((b * 2).single_symbol(), std::nullopt);
  EXPECT_EQ((b + 1).single_symbol(), std::nullopt);
  EXPECT_EQ((b * b).single_symbol(), std::nullopt);
  EXPECT_EQ(Dim(3).single_symbol(), std::nullopt);
}

TEST(Dim, NumbersSaturateInsteadOfWrapping) {
  EXPECT_EQ((Dim(INT64_MAX) + 1).value(), INT64_MAX);
  EXPECT_EQ((Dim(INT64_MAX) * 2).value(), INT64_MAX);
  EXPECT_EQ((Dim(int64_t{1} << 32) * (int64_t{1} << 32)).value(), INT64_MAX);
}

TEST(Dim, CoefficientsThatOverflowBecomeASymbol) {
  const Dim big = b * INT64_MAX;
  EXPECT_FALSE((big * 2).known());
  EXPECT_EQ(big * 2, big * 2);
  EXPECT_FALSE(big + big == big);
  EXPECT_TRUE((big + big).single_symbol().has_value());
}

TEST(Dim, TheSmallestNumberNeitherTrapsNorOverflows) {
  EXPECT_FALSE(Dim::quotient(INT64_MIN, -1).known());
  EXPECT_FALSE(Dim::quotient(b * INT64_MIN, -1) == b);
  EXPECT_EQ((b * INT64_MIN).text(), "-9223372036854775808*b");
}

TEST(Dim, NestedExpressionsStaySmall) {
  Dim d = b;
  Dim same = b;
  for (int i = 0; i < 200; ++i) {
    d = Dim::max(Dim::quotient(d * d + d, 7), d + 1);
    same = Dim::max(Dim::quotient(same * same + same, 7), same + 1);
  }
  EXPECT_LT(d.text().size(), 2000u);
  EXPECT_EQ(d, same);
  EXPECT_FALSE(d == Dim::max(Dim::quotient(d * d + d, 7), d + 1));
}

TEST(Dim, PolynomialsOfManyTermsStayBounded) {
  Dim sum = 0, product = 1;
  for (int i = 0; i < 200; ++i) {
    const Dim x = Dim::symbol("x" + std::to_string(i));
    sum = sum + x;
    product = product * (x + 1);
  }
  EXPECT_LT(sum.text().size(), 4096u);
  EXPECT_LT(product.text().size(), 65536u);
}

}  // namespace
}  // namespace ocior
