// The kernels of convolutions against plain loops, on every table: gathered rows are equal, depthwise sums within a bound of the
// length of the sum, neither reads or writes where it may not.
#include <gtest/gtest.h>

#include "kernels/test_memory.h"
#include "kernels/test_tables.h"

namespace ocior {
namespace {

class Conv : public testing::TestWithParam<const KernelTable*> {};
INSTANTIATE_TEST_SUITE_P(Tables, Conv, testing::ValuesIn(tables_under_test()), TableName());

// Rows of one panel in two pieces, every split and every border; x ends at a page that may not be touched.
TEST_P(Conv, GathersRows) {
  constexpr int64_t kRows = 3, kWidth = 32, kSpill = 15;
  for (const int64_t step : {1, 2, 3})
    for (int64_t split = 0; split <= kWidth; ++split)
      for (const int64_t border : {0, 1, 2, 9}) {
        RowPiece pieces[2];
        int64_t count = 0;
        for (const auto& [begin, end] : {std::pair{int64_t{0}, split}, std::pair{split, kWidth}}) {
          const int64_t n = end - begin, lo = std::min(border, n), hi = std::max(lo, n - border);
          if (n > 0) pieces[count++] = {.to = begin, .from = -lo * step, .n = n, .lo = lo, .hi = hi};
        }
        const int64_t plane = (kWidth - 1) * step + 1;
        const Guarded<float> x(random_floats(static_cast<size_t>(kRows * plane), 3));
        const Guarded<float> y(static_cast<size_t>(kRows * kWidth + kSpill));
        GetParam()->gather_rows_f32(x.data(), plane, step, pieces, count, y.data(), kWidth, kRows);
        for (int64_t row = 0; row < kRows; ++row)
          for (int64_t k = 0; k < count; ++k)
            for (int64_t i = 0; i < pieces[k].n; ++i) {
              const RowPiece& p = pieces[k];
              const bool given = i >= p.lo && i < p.hi;
              const float want = given ? x[static_cast<size_t>(row * plane + p.from + i * step)] : 0;
              ASSERT_EQ(y[static_cast<size_t>(row * kWidth + p.to + i)], want)
                  << "step " << step << " split " << split << " border " << border << " row " << row << " element " << i;
            }
      }
}

// Every width around the vectors, odd heights, strides and dilations.
TEST_P(Conv, DepthwiseSums) {
  for (const int64_t width : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40})
    for (const int64_t height : {1, 2, 3, 5, 7, 8, 9, 15})
      for (const int64_t stride : {1, 2, 3})
        for (const int64_t dilation : {1, 2})
          for (const int64_t kernel : {1, 3, 5}) {
            DepthwiseArgs a;
            a.out_h = height, a.out_w = width, a.kernel_h = kernel, a.kernel_w = kernel;
            a.stride_h = a.stride_w = stride, a.dilation_h = a.dilation_w = dilation;
            a.ldx = ((width - 1) * stride + (kernel - 1) * dilation) / stride + 1;
            const int64_t phase = a.ldx * ((height - 1) * stride + (kernel - 1) * dilation + 1);
            const Guarded<float> x(random_floats(static_cast<size_t>(phase * stride + DepthwiseArgs::kSlack), 5));
            const Guarded<float> w(random_floats(static_cast<size_t>(kernel * kernel), 6));
            const Guarded<float> y(static_cast<size_t>(width * height));
            a.x = x.data(), a.w = w.data(), a.y = y.data();
            a.bias = 0.25f, a.lo = -1;
            GetParam()->depthwise_conv_f32(a, 0, height);
            for (int64_t i = 0; i < height; ++i)
              for (int64_t j = 0; j < width; ++j) {
                double want = a.bias, size = std::fabs(a.bias);
                for (int64_t r = 0; r < kernel; ++r)
                  for (int64_t s = 0; s < kernel; ++s) {
                    const int64_t column = j * stride + s * dilation, row = i * stride + r * dilation;
                    const double term = static_cast<double>(w[static_cast<size_t>(r * kernel + s)]) *
                                        x[static_cast<size_t>(column % stride * phase + row * a.ldx + column / stride)];
                    want += term, size += std::fabs(term);
                  }
                // One rounding of each term and one of each sum.
                ASSERT_NEAR(y[static_cast<size_t>(i * width + j)], std::max(-1.0, want),
                            6e-8 * static_cast<double>(kernel * kernel + 1) * size)
                    << width << "x" << height << " stride " << stride << " dilation " << dilation << " kernel " << kernel;
              }
          }
}

TEST_P(Conv, DepthwiseKeepsNaN) {
  const std::vector<float> x(64, std::numeric_limits<float>::quiet_NaN());
  const float w = 1;
  std::vector<float> y(9);
  const DepthwiseArgs a{
      .x = x.data(), .ldx = 9, .w = &w, .y = y.data(), .out_h = 1, .out_w = 9, .kernel_h = 1, .kernel_w = 1, .lo = 0, .hi = 6};
  GetParam()->depthwise_conv_f32(a, 0, 1);
  for (const float v : y) EXPECT_TRUE(std::isnan(v));
}

}  // namespace
}  // namespace ocior
