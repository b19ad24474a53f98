// Unique: the different elements, or slices along an axis, sorted or in order of their first occurrence, with where each occurs
// first, which one each element is, and how often. Sized by the run. NaNs are one value, after every number.
#include <algorithm>
#include <complex>
#include <numeric>

#include "ops/evaluate.h"
#include "ops/microsoft/microsoft.h"
#include "ops/move.h"
#include "ops/shape_data.h"
#include "ops/shapes.h"
#include "ops/typed.h"

namespace ocior::ops {
namespace {

// -1, 0, 1: the order of two values.
template <class T>
int order(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, std::complex<double>>) {
    const int real = order(a.real(), b.real());
    return real ? real : order(a.imag(), b.imag());
  } else if constexpr (std::is_same_v<T, std::string>) {
    return a.compare(b);
  } else {
    const bool a_nan = a != a, b_nan = b != b;
    if (a_nan || b_nan) return static_cast<int>(a_nan) - static_cast<int>(b_nan);
    return static_cast<int>(a > b) - static_cast<int>(a < b);
  }
}

// Calls f with all elements as values that order() knows.
template <class F>
void visit_values(const Tensor& x, F&& f) {
  const auto n = static_cast<size_t>(x.count());
  if (x.dtype() == DType::kString) return f(x.as<std::string>());
  if (x.dtype() == DType::kComplex64 || x.dtype() == DType::kComplex128) {
    std::vector<std::complex<double>> values(n);
    for (size_t i = 0; i < n; ++i)
      values[i] = x.dtype() == DType::kComplex128 ? x.as<std::complex<double>>()[i]
                                                  : std::complex<double>(x.as<std::complex<float>>()[i]);
    return f(values.data());
  }
  visit_kind(kind_of(x.dtype()), [&](auto zero) {
    using C = decltype(zero);
    std::vector<C> values(n);
    f(load<C>(x.dtype(), x.data(), 0, x.count(), values.data()));
  });
}

struct Cut {
  int64_t axis, outer, length, inner;
};

// The slices in the order of their values, equal ones by position; a group begins where `fresh` is true.
struct Sorted {
  std::vector<int64_t> slices;
  std::vector<bool> fresh;
};

template <class T>
Sorted sort_slices(const T* x, const Cut& cut) {
  const auto compare = [&](int64_t a, int64_t b) {
    for (int64_t o = 0; o < cut.outer; ++o)
      for (int64_t i = 0; i < cut.inner; ++i)
        if (const int d = order(x[(o * cut.length + a) * cut.inner + i], x[(o * cut.length + b) * cut.inner + i])) return d;
    return 0;
  };
  Sorted out{std::vector<int64_t>(static_cast<size_t>(cut.length)), std::vector<bool>(static_cast<size_t>(cut.length), true)};
  std::iota(out.slices.begin(), out.slices.end(), 0);
  if constexpr (std::is_arithmetic_v<T>) {
    if (cut.outer == 1 && cut.inner == 1) {  // values beside their positions sort faster than positions alone
      std::vector<std::pair<T, int64_t>> values(out.slices.size());
      for (size_t i = 0; i < values.size(); ++i) values[i] = {x[i], static_cast<int64_t>(i)};
      std::sort(values.begin(), values.end(), [](const auto& a, const auto& b) {
        const int d = order(a.first, b.first);
        return d ? d < 0 : a.second < b.second;
      });
      for (size_t i = 0; i < values.size(); ++i) {
        out.slices[i] = values[i].second;
        out.fresh[i] = i == 0 || order(values[i - 1].first, values[i].first) != 0;
      }
      return out;
    }
  }
  std::stable_sort(out.slices.begin(), out.slices.end(), [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
  for (size_t i = 1; i < out.slices.size(); ++i) out.fresh[i] = compare(out.slices[i - 1], out.slices[i]) != 0;
  return out;
}

}  // namespace

struct Unique {
  static constexpr OpInfo info{.name = "Unique", .since = 11, .max_outputs = 4};
  std::optional<int64_t> axis;
  bool sorted = true;
  int firsts = 1, groups = 2,
      counts = 3;  // the outputs: where each occurs first (-1: none), which one each element is, how often

  static Unique parse(const NodeReader& node) {
    Unique op{.sorted = node.integer("sorted", 1) != 0};
    if (node.has("axis")) op.axis = node.integer("axis", 0);
    return op;
  }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(
        check_type(c, 0, kNumbers | kBools | kStrings | types(DType::kComplex64, DType::kComplex128), "Unique"));
    const Dim found = c.fresh("unique");
    Dim all = c.fresh("elements");
    if (!ranked(c, 0)) {
      c.set(0, c.dtype(0), axis ? std::nullopt : std::optional<Dims>(Dims{found}));
    } else if (axis) {
      Dims out = *c.shape(0);
      OCIOR_ASSIGN(const int64_t at, resolve_axis(*axis, rank(c, 0)));
      all = out[static_cast<size_t>(at)];
      out[static_cast<size_t>(at)] = found;
      c.set(0, c.dtype(0), std::move(out));
    } else {
      if (const auto n = known_product(*c.shape(0))) all = *n;
      c.set(0, c.dtype(0), Dims{found});
    }
    for (int i = 1; i < c.outputs(); ++i) c.set(i, DType::kInt64, Dims{i == groups ? all : found});
    return {};
  }

  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    OCIOR_ASSIGN(const Cut cut, cut_at(x.shape()));
    Sorted slices;
    visit_values(x, [&](const auto* values) { slices = sort_slices(values, cut); });
    // Groups of equal slices, and which one each slice is in.
    std::vector<int64_t> first, count, group(slices.slices.size());
    for (size_t i = 0; i < slices.slices.size(); ++i) {
      if (slices.fresh[i]) first.push_back(slices.slices[i]), count.push_back(0);
      ++count.back();
      group[static_cast<size_t>(slices.slices[i])] = std::ssize(first) - 1;
    }
    std::vector<int64_t> order(first.size()), place(first.size());  // of the groups in the output, and the other way round
    std::iota(order.begin(), order.end(), 0);
    if (!sorted)
      std::sort(order.begin(), order.end(),
                [&](int64_t a, int64_t b) { return first[static_cast<size_t>(a)] < first[static_cast<size_t>(b)]; });
    for (size_t i = 0; i < order.size(); ++i) place[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);

    const auto found = std::ssize(first);
    Shape shape{found};
    if (axis) shape = x.shape(), shape[static_cast<size_t>(cut.axis)] = found;
    OCIOR_RETURN_IF_ERROR(ensure_output(c, 0, x.dtype(), shape));
    for (int64_t o = 0; o < cut.outer && c.wants(0); ++o)
      for (int64_t i = 0; i < found; ++i)
        copy_elements(x.dtype(), c.out(0).data(), (o * found + i) * cut.inner, x.data(),
                      (o * cut.length + first[static_cast<size_t>(order[static_cast<size_t>(i)])]) * cut.inner, cut.inner);
    OCIOR_RETURN_IF_ERROR(give(c, firsts, order.size(), [&](size_t i) { return first[static_cast<size_t>(order[i])]; }));
    OCIOR_RETURN_IF_ERROR(give(c, groups, group.size(), [&](size_t i) { return place[static_cast<size_t>(group[i])]; }));
    return give(c, counts, order.size(), [&](size_t i) { return count[static_cast<size_t>(order[i])]; });
  }

  Status run(CpuContext& c) const { return run_by_reference(*this, c); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kFloat16, DType::kInt8, DType::kInt64, DType::kUint64,
                          DType::kBool, DType::kString, DType::kComplex64})
      for (const int64_t sorted : {0, 1}) {
        const auto add = [&](Shape shape, std::optional<int64_t> axis, int outputs) {
          Sample s{.inputs = {{t, std::move(shape), Fill::kBools}}, .attributes = {{"sorted", sorted}}, .outputs = outputs};
          if (axis) s.attributes["axis"] = *axis;
          out.push_back(std::move(s));
        };
        add({9}, std::nullopt, 4);
        add({2, 3, 2}, std::nullopt, 1);
        add({8, 2}, 0, 4);
        add({2, 9, 1}, -2, 3);
        add({0}, std::nullopt, 4);
        add({3, 0}, 0, 2);
        add({}, std::nullopt, 4);
      }
    out.push_back({.inputs = {{DType::kFloat, {70}, Fill::kSpecials}}, .outputs = 4});
    return out;
  }

 private:
  Result<Cut> cut_at(std::span<const int64_t> shape) const {
    if (!axis) return Cut{0, 1, element_count(shape), 1};
    OCIOR_ASSIGN(const int64_t a, resolve_axis(*axis, static_cast<int64_t>(shape.size())));
    const auto at = static_cast<size_t>(a);
    return Cut{a, element_count(shape.first(at)), shape[at], element_count(shape.subspan(at + 1))};
  }

  template <class F>
  static Status give(RefContext& c, int i, size_t n, F&& value) {
    if (i < 0 || !c.wants(i)) return {};
    const int64_t shape[1] = {static_cast<int64_t>(n)};
    OCIOR_RETURN_IF_ERROR(ensure_output(c, i, DType::kInt64, shape));
    for (size_t k = 0; k < n; ++k) c.out(i).as<int64_t>()[k] = value(k);
    return {};
  }
};
OCIOR_OPERATOR(Unique)

// Unique of com.microsoft: of a vector, in order of first occurrence, without the places of these.
struct MicrosoftUnique : Unique {
  static constexpr OpInfo info{.name = "Unique", .domain = kMicrosoft, .min_outputs = 3, .max_outputs = 3};

  static MicrosoftUnique parse(const NodeReader&) {
    MicrosoftUnique op;
    op.sorted = false, op.firsts = -1, op.groups = 1, op.counts = 2;
    return op;
  }

  Status infer(ShapeContext& c) const {
    if (ranked(c, 0) && rank(c, 0) != 1)
      return error(Code::kInvalidArgument, "the input has shape {}; expected a vector", to_string(*c.shape(0)));
    return Unique::infer(c);
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kInt64, DType::kString})
      for (const int64_t n : {0, 1, 9}) out.push_back({.inputs = {{t, {n}, Fill::kBools}}, .outputs = 3});
    out.push_back({.inputs = {{DType::kFloat, {70}, Fill::kSpecials}}, .outputs = 3});
    return out;
  }
};
OCIOR_OPERATOR(MicrosoftUnique)

}  // namespace ocior::ops
