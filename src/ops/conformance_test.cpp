// Every operator's run() against its reference(), on every kernel table that this machine has: all samples, one and several
// threads (same bits), in place where the operator allows it, with values hidden from inference. All differences are listed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "ops/evaluate.h"
#include "ops/harness.h"

namespace ocior::ops {
namespace {

std::string describe(const Sample& s, size_t index) {
  std::string inputs;
  for (const SampleInput& i : s.inputs)
    inputs +=
        (inputs.empty() ? "" : ", ") + (i.omitted ? std::string("-") : fmt::format("{}{}", name_of(i.dtype), to_string(i.shape)));
  return fmt::format("sample {} ({}) {{{}}} opset {}", index, inputs, graph::to_string(s.attributes),
                     s.opset ? s.opset : kNewestOpset);
}

bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].shape() != b[i].shape() ||
        (a[i].dtype() != DType::kString && std::memcmp(a[i].data(), b[i].data(), a[i].bytes()) != 0))
      return false;
  return true;
}

class Case {
 public:
  Case(const OpEntry& entry, const Sample& sample, size_t index)
      : sample_(sample), text_(fmt::format("{} {}", entry.info->name, describe(sample, index))) {
    auto op = make_sample(entry, sample);
    if (!op.ok()) {
      fail(op.status().message());
      return;
    }
    op_ = *op;
    auto inputs = make_inputs(sample, 1000 + index);
    if (!inputs.ok()) {
      fail(inputs.status().message());
      return;
    }
    inputs_ = std::move(*inputs);
    auto want = run_reference(*op_, pointers(inputs_), sample.outputs);
    if (!want.ok()) {
      fail(want.status().message());
      return;
    }
    want_ = std::move(*want);
    for (const SampleInput& i : sample.inputs) options_.constants.push_back(i.constant);
    ok_ = true;
  }

  // All ways of running against the reference.
  void check() {
    if (!ok_ || !op_->has_run() || !op_->info().pure) return;
    const KernelTables tables = available_kernels();
    for (size_t t = 0; t < tables.count; ++t) {
      options_ = {.kernels = tables.tables[t], .constants = options_.constants};
      const auto serial = compare("");
      options_.threads = 3;
      const auto parallel = compare(" on 3 threads");
      if (serial && parallel && !same_bits(*serial, *parallel))
        fail(fmt::format("{}: other bits on 3 threads than on 1", options_.kernels->name));
      options_.threads = 1;
      check_in_place();
    }
    options_ = {.constants = options_.constants, .hide_values = true};
    compare(" with values hidden from inference");
  }

 private:
  std::optional<std::vector<Tensor>> compare(const std::string& how) {
    auto got = run_cpu(*op_, pointers(inputs_), sample_.outputs, options_);
    const char* table = options_.kernels ? options_.kernels->name : "default";
    if (!got.ok()) return fail(fmt::format("{}{}: {}", table, how, got.status().message())), std::nullopt;
    for (size_t i = 0; i < want_.size(); ++i)
      if (const std::string d = difference(want_[i], (*got)[i], sample_.tolerance); !d.empty())
        return fail(fmt::format("{}{}: output {}: {}", table, how, i, d)), std::nullopt;
    return std::move(*got);
  }

  void check_in_place() {
    for (int i = 0; i < static_cast<int>(inputs_.size()) && i < 32; ++i) {
      const Tensor& x = inputs_[static_cast<size_t>(i)];
      if (!(op_->info().in_place >> i & 1) || !x.defined() || x.dtype() != want_[0].dtype() || x.shape() != want_[0].shape())
        continue;
      options_.in_place = i;
      compare(fmt::format(" in place of input {}", i));
      options_.in_place = -1;
    }
  }

  void fail(const std::string& what) { ADD_FAILURE() << text_ << ": " << what; }

  const Sample& sample_;
  std::string text_;
  std::shared_ptr<const AnyOperator> op_;
  std::vector<Tensor> inputs_, want_;
  CpuOptions options_;
  bool ok_ = false;
};

class Conformance : public testing::TestWithParam<const OpEntry*> {};

TEST_P(Conformance, RunIsReference) {
  const std::vector<Sample> samples = GetParam()->samples();
  // Samples are tensors; operators that only know values of other kinds have tests of their own.
  EXPECT_TRUE(!samples.empty() || GetParam()->info->any_kind) << "an operator without samples is untested";
  for (size_t i = 0; i < samples.size(); ++i)
    if (!samples[i].bench) Case(*GetParam(), samples[i], i).check();
}

std::vector<const OpEntry*> entries() {
  std::vector<const OpEntry*> out;
  for (const OpEntry& e : all_operators()) out.push_back(&e);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Ops, Conformance, testing::ValuesIn(entries()), [](const auto& info) {
  const OpInfo& op = *info.param->info;
  std::string name = op.domain.empty() ? "" : op.domain == kOcior ? "ocior_" : fmt::format("{}_", op.domain);
  std::replace(name.begin(), name.end(), '.', '_');
  return name.append(op.name);
});

TEST(Manifest, IsSortedAndWithoutDoubles) {
  std::vector<std::pair<std::string_view, std::string_view>> names;
  for (const OpEntry& e : all_operators()) names.emplace_back(e.info->domain, e.info->name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace ocior::ops
