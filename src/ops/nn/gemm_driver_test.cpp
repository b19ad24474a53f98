// Which precision a product gets, and what is packed for it.
#include "ops/nn/gemm_driver.h"

#include <gtest/gtest.h>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {
namespace {

TEST(ProductPrecision, LowerOnesBeginAtDepth64AndWork2To18) {
  const Precision high = Precision::kHigh, highest = Precision::kHighest;
  EXPECT_EQ(nn::product_precision(high, 64, 64, 64), high);
  EXPECT_EQ(nn::product_precision(high, 63, 64, 64), highest);
  EXPECT_EQ(nn::product_precision(high, 4096, 4096, 63), highest);
  EXPECT_EQ(nn::product_precision(high, 0, 4096, 4096), highest);
  EXPECT_EQ(nn::product_precision(high, INT64_MAX, 2, 64), high);
  EXPECT_EQ(nn::product_precision(high, 2, 64, INT64_MAX), high);
  EXPECT_EQ(nn::product_precision(Precision::kMedium, 1, 512, 512), Precision::kMedium);
  EXPECT_EQ(nn::product_precision(highest, 4096, 4096, 4096), highest);
}

// Counts what is packed and released.
class Packing final : public PrepareContext {
 public:
  Packing(Type x, const Tensor& w, Precision precision)
      : types_{std::move(x), Type::tensor(DType::kFloat, Dims(w.shape().begin(), w.shape().end()))},
        w_(w),
        precision_(precision) {}
  bool has(int i) const override { return i < 2; }
  const Tensor* constant(int i) const override { return i == 1 ? &w_ : nullptr; }
  const Type& in(int i) const override { return types_[i]; }
  const KernelTable& kernels() const override { return ocior::kernels(); }
  Precision precision() const override { return precision_; }
  const void* pack(std::string_view form, size_t bytes, int64_t, PackFunction, const void*) override {
    forms.emplace_back(form);
    store_.push_back(std::make_unique<std::byte[]>(bytes));
    return store_.back().get();
  }
  void release(int i) override { released = i; }

  std::vector<std::string> forms;
  int released = -1;

 private:
  Type types_[2];
  const Tensor& w_;
  Precision precision_;
  std::vector<std::unique_ptr<std::byte[]>> store_;
};

TEST(Weights, ArePackedInEveryPrecisionThatRunsMayNeed) {
  struct Case {
    Dim rows;
    int64_t k, n;
    size_t forms;
    std::string described;
  };
  const Case cases[] = {
      {Dim::symbol("batch"), 64, 64, 2, "packed weights, high from 262144 multiply-adds on, else highest"},
      {Dim(64), 64, 64, 1, "packed weights, high"},
      {Dim(63), 64, 64, 1, "packed weights, highest"},
      {Dim::symbol("batch"), 512, 512, 1, "packed weights, high"},
      {Dim::symbol("batch"), 32, 512, 1, "packed weights, highest"},
  };
  const auto op = make_operator(kOcior, "Linear", 1, {}, 2, 1);
  ASSERT_TRUE(op.ok());
  for (const Case& c : cases) {
    const Tensor w = Tensor::allocate(DType::kFloat, {c.k, c.n}).value();
    Packing packing(Type::tensor(DType::kFloat, Dims{c.rows, Dim(c.k)}), w, Precision::kHigh);
    const auto prepared = (*op)->prepare(packing);
    ASSERT_TRUE(prepared.ok());
    EXPECT_EQ(packing.forms.size(), c.forms) << c.described;
    EXPECT_EQ(packing.released, 1);
    EXPECT_EQ((*op)->describe(prepared->get()), c.described);
  }
  EXPECT_EQ((*op)->describe(nullptr), "right operand packed by each run, highest");
}

TEST(Linear, LowerPrecisionsStayWithinTheirErrorOnEveryTable) {
  const auto op = make_operator(kOcior, "Linear", 1, {}, 3, 1);
  ASSERT_TRUE(op.ok());
  const KernelTables tables = available_kernels();
  for (const int64_t m : {1, 7, 70}) {
    const Sample sample{.inputs = {{.shape = {m, 200}}, {.shape = {200, 90}}, {.shape = {90}}}};
    const std::vector<Tensor> inputs = make_inputs(sample, 5).value();
    const auto want = run_reference(**op, pointers(inputs), 1);
    ASSERT_TRUE(want.ok());
    for (size_t t = 0; t < tables.count; ++t)
      for (const auto& [precision, tolerance] :
           {std::pair{Precision::kHighest, 2e-6}, {Precision::kHigh, 2e-5}, {Precision::kMedium, 1e-2}}) {
        const auto got = run_cpu(**op, pointers(inputs), 1,
                                 {.kernels = tables.tables[t], .precision = precision, .constants = {false, true, true}});
        ASSERT_TRUE(got.ok()) << got.status().message();
        EXPECT_EQ(difference((*want)[0], (*got)[0], tolerance), "")
            << tables.tables[t]->name << " " << nn::name_of(precision) << " m=" << m;
      }
  }
}

}  // namespace
}  // namespace ocior::ops
