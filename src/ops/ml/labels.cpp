// Look-ups of ai.onnx.ml: LabelEncoder and CategoryMapper (value by value), OneHotEncoder (value to row).
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <iterator>

#include "ops/loops.h"
#include "ops/ml/scores.h"
#include "ops/move.h"
#include "ops/shapes.h"

namespace ocior::ops {
namespace {

// Positions of keys, by binary search: no input makes it slow.
template <class K>
class Index {
 public:
  Index() = default;
  // Of equal keys the first or the last counts.
  Index(std::vector<K> keys, bool last) {
    for (size_t i = 0; i < keys.size(); ++i) entries_.emplace_back(std::move(keys[i]), static_cast<int64_t>(i));
    std::sort(entries_.begin(), entries_.end(), [last](const Entry& a, const Entry& b) {
      return a.first != b.first ? a.first < b.first : last ? a.second > b.second : a.second < b.second;
    });
    entries_.erase(
        std::unique(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.first == b.first; }),
        entries_.end());
  }
  int64_t find(const K& key, int64_t otherwise) const {
    const auto at =
        std::lower_bound(entries_.begin(), entries_.end(), key, [](const Entry& e, const K& k) { return e.first < k; });
    return at != entries_.end() && at->first == key ? at->second : otherwise;
  }

 private:
  using Entry = std::pair<K, int64_t>;
  std::vector<Entry> entries_;
};

// A float as a key: -0 is 0, and NaNs are one key or, with `exact_nan`, one per bit pattern.
uint64_t real_key(DType t, const void* data, int64_t i, bool exact_nan) {
  const double v = get_double(t, data, i);
  if (std::isnan(v)) return 0xfff0'0000'0000'0000 | (exact_nan ? static_cast<const uint32_t*>(data)[i] : 1);
  return std::bit_cast<uint64_t>(v == 0 ? 0.0 : v);
}

constexpr TypeSet kLabels = types(DType::kString, DType::kInt64, DType::kFloat, DType::kInt32, DType::kInt16, DType::kDouble);

// From elements of one type to elements of another.
struct Mapping {
  DType from = DType::kUndefined;
  Index<std::string> names;
  Index<int64_t> numbers;
  Index<uint64_t> reals;
  bool exact_nan = false;
  Tensor values;  // one per key, then the default

  static Result<Mapping> make(const Tensor& keys, const Tensor& values, const Tensor& otherwise, bool last, bool exact_nan) {
    Mapping m;
    m.from = keys.dtype();
    m.exact_nan = exact_nan;
    const int64_t n = keys.count();
    if (keys.dtype() == DType::kString) {
      m.names = {{keys.as<std::string>(), keys.as<std::string>() + n}, last};
    } else if (is_floating(keys.dtype())) {
      std::vector<uint64_t> bits(static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) bits[static_cast<size_t>(i)] = real_key(keys.dtype(), keys.data(), i, exact_nan);
      m.reals = {std::move(bits), last};
    } else {
      m.numbers = {to_ints(keys), last};
    }
    OCIOR_ASSIGN(m.values, Tensor::allocate(values.dtype(), {n + 1}));
    copy_elements(values.dtype(), m.values.data(), 0, values.data(), 0, n);
    copy_elements(values.dtype(), m.values.data(), n, otherwise.data(), 0, 1);
    return m;
  }

  void apply(const void* x, void* y, int64_t begin, int64_t end) const {
    const int64_t otherwise = values.count() - 1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = from == DType::kString ? names.find(static_cast<const std::string*>(x)[i], otherwise)
                         : is_floating(from)    ? reals.find(real_key(from, x, i, exact_nan), otherwise)
                                                : numbers.find(get_int(from, x, i), otherwise);
      copy_elements(values.dtype(), y, i, values.data(), at, 1);
    }
  }
};

template <class T>
Tensor list_of(const std::vector<T>& values) {
  DType dtype = DType::kString;
  if constexpr (!std::is_same_v<T, std::string>) dtype = dtype_for<T>();
  auto made = Tensor::allocate(dtype, {static_cast<int64_t>(values.size())});
  if (!made.ok()) return {};
  std::copy(values.begin(), values.end(), made->template as<T>());
  return std::move(made).value();
}

// The mapping that an operator uses is the one for its input's type.
struct Mappings {
  std::vector<Mapping> all;

  void add(const NodeReader& node, const Tensor& keys, const Tensor& values, const Tensor& otherwise, bool last, bool exact_nan) {
    if (!node.status().ok()) return;
    auto made = Mapping::make(keys, values, otherwise, last, exact_nan);
    if (made.ok()) all.push_back(std::move(made).value());
    else node.fail("{}", made.status().message());
  }
  const Mapping* of(DType t) const {
    const auto found = std::ranges::find(all, t, &Mapping::from);
    return found == all.end() ? nullptr : &*found;
  }
  Status infer(ShapeContext& c, std::string_view op) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, kLabels, op));
    const Mapping* m = of(c.dtype(0));
    if (!m)
      return error(Code::kInvalidGraph, "{}: the input is {}, but the keys are {}", op, name_of(c.dtype(0)),
                   name_of(all[0].from));
    c.set(0, m->values.dtype(), c.shape(0));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    of(x.dtype())->apply(x.data(), c.out(0).data(), 0, x.count());
    return {};
  }
  Status run(CpuContext& c) const {
    const TensorView &x = c.in(0), &y = c.out(0);
    const Mapping* m = of(x.dtype);
    for_items(c, x.count(), 16, [&](int64_t begin, int64_t end) { m->apply(x.data, y.data, begin, end); });
    return {};
  }
};

// A list given as one of several attributes; null and a failed node unless exactly one is there.
Tensor one_list(const NodeReader& node, const std::string& prefix, bool tensors) {
  std::vector<Tensor> found;
  if (node.has(prefix + "_strings")) found.push_back(list_of(node.texts(prefix + "_strings")));
  if (node.has(prefix + "_int64s")) found.push_back(list_of(node.integers(prefix + "_int64s")));
  if (node.has(prefix + "_floats")) found.push_back(list_of(node.numbers(prefix + "_floats")));
  if (tensors)
    if (const Tensor* t = node.tensor(prefix + "_tensor")) found.push_back(*t);
  if (found.size() != 1) {
    node.fail("expected exactly one of the attributes {}_*, got {}", prefix, found.size());
    return {};
  }
  if (!found[0].defined() || !(kLabels & type_bit(found[0].dtype())))
    node.fail("{}_tensor is of type {}; expected string, int64, float, int32, int16 or double", prefix,
              name_of(found[0].dtype()));
  return found[0];
}

}  // namespace

struct LabelEncoder {
  static constexpr OpInfo info{.name = "LabelEncoder", .domain = ml::kMl};
  Mappings mappings;

  static LabelEncoder parse(const NodeReader& node) {
    LabelEncoder op;
    const std::string text = node.text("default_string", "_Unused");
    const int64_t number = node.integer("default_int64", -1);
    if (node.opset() < 2) {
      const std::vector<std::string> classes = node.texts("classes_strings");
      if (classes.empty()) node.fail("attribute 'classes_strings' is required");
      std::vector<int64_t> places(classes.size());
      for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i);
      op.mappings.add(node, list_of(classes), list_of(places), Tensor::of<int64_t>({1}, {number}), true, false);
      op.mappings.add(node, list_of(places), list_of(classes), list_of<std::string>({text}), true, false);
      return op;
    }
    const bool tensors = node.opset() >= 4;
    const Tensor keys = one_list(node, "keys", tensors), values = one_list(node, "values", tensors);
    const float real = node.number("default_float", -0.0F);
    if (!node.status().ok()) return op;
    Tensor otherwise = values.dtype() == DType::kString ? list_of<std::string>({text})
                       : is_floating(values.dtype())    ? Tensor::of<float>({1}, {real})
                                                        : Tensor::of<int64_t>({1}, {number});
    if (otherwise.dtype() != values.dtype()) otherwise = converted(node, otherwise, values.dtype());
    if (const Tensor* given = tensors ? node.tensor("default_tensor") : nullptr) {
      if (given->dtype() != values.dtype() || given->count() != 1)
        node.fail("default_tensor is {}{}; expected one element of type {}", name_of(given->dtype()), to_string(given->shape()),
                  name_of(values.dtype()));
      otherwise = *given;
    }
    if (keys.count() != values.count()) node.fail("there are {} keys for {} values", keys.count(), values.count());
    // Before version 4 NaN keys match by their bits, and nothing is said of repeated keys; since then the last one counts.
    op.mappings.add(node, keys, values, otherwise, tensors, !tensors);
    return op;
  }
  Status infer(ShapeContext& c) const { return mappings.infer(c, info.name); }
  Status reference(RefContext& c) const { return mappings.reference(c); }
  Status run(CpuContext& c) const { return mappings.run(c); }

  static std::vector<Sample> samples() {
    const std::vector<std::string> names{"s1", "s-1", "s3", "s1"};
    const std::vector<int64_t> numbers{1, -1, 3, 1};
    const std::vector<float> reals{1, std::nanf(""), 3, -0.0F};
    std::vector<Sample> out;
    for (const DType t : {DType::kString, DType::kInt64})
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{9}, Shape{2, 3}})
        out.push_back({.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = {{"classes_strings", names}}, .opset = 1});
    const std::vector<std::pair<DType, std::pair<std::string, AttributeValue>>> keys{{DType::kString, {"keys_strings", names}},
                                                                                     {DType::kInt64, {"keys_int64s", numbers}},
                                                                                     {DType::kFloat, {"keys_floats", reals}}};
    const std::vector<std::pair<std::string, AttributeValue>> values{
        {"values_strings", names}, {"values_int64s", numbers}, {"values_floats", reals}};
    for (const auto& [t, key] : keys)
      for (const auto& value : values)
        for (const int opset : {2, 4, 5})
          out.push_back({.inputs = {{t, {12}, t == DType::kFloat ? Fill::kSpecials : Fill::kSmallInts}},
                         .attributes = {key, value, {"default_int64", int64_t{7}}},
                         .opset = opset});
    out.push_back({.inputs = {{DType::kInt16, {9}, Fill::kSmallInts}},
                   .attributes = {{"keys_tensor", Tensor::of<int16_t>({3}, {1, 2, 3})},
                                  {"values_tensor", Tensor::of<double>({3}, {.1, .2, .3})},
                                  {"default_tensor", Tensor::of<double>({1}, {.4})}}});
    out.push_back({.inputs = {{DType::kDouble, {9}, Fill::kSmallInts}},
                   .attributes = {{"keys_tensor", Tensor::of<double>({3}, {1, 2, 3})},
                                  {"values_tensor", Tensor::of<int32_t>({3}, {4, 5, 6})}}});
    return out;
  }

 private:
  // A number as a one-element tensor of another type.
  static Tensor converted(const NodeReader& node, const Tensor& one, DType to) {
    auto made = Tensor::allocate(to, {1});
    if (!made.ok()) return node.fail("{}", made.status().message()), Tensor();
    if (is_floating(to)) set_double(to, made->data(), 0, get_double(one.dtype(), one.data(), 0));
    else if (to == DType::kInt32)
      set_int(to, made->data(), 0, std::clamp<int64_t>(get_int(one.dtype(), one.data(), 0), INT32_MIN, INT32_MAX));
    else set_int(to, made->data(), 0, std::clamp<int64_t>(get_int(one.dtype(), one.data(), 0), INT16_MIN, INT16_MAX));
    return std::move(made).value();
  }
};
OCIOR_OPERATOR(LabelEncoder)

struct CategoryMapper {
  static constexpr OpInfo info{.name = "CategoryMapper", .domain = ml::kMl};
  Mappings mappings;

  static CategoryMapper parse(const NodeReader& node) {
    CategoryMapper op;
    const Tensor numbers = list_of(node.integers("cats_int64s")), names = list_of(node.texts("cats_strings"));
    if (numbers.count() != names.count() || names.count() == 0)
      node.fail("cats_int64s lists {} and cats_strings {} categories; expected as many of both, and some", numbers.count(),
                names.count());
    op.mappings.add(node, names, numbers, Tensor::of<int64_t>({1}, {node.integer("default_int64", -1)}), true, false);
    op.mappings.add(node, numbers, names, list_of<std::string>({node.text("default_string", "_Unused")}), true, false);
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, types(DType::kString, DType::kInt64), info.name));
    return mappings.infer(c, info.name);
  }
  Status reference(RefContext& c) const { return mappings.reference(c); }
  Status run(CpuContext& c) const { return mappings.run(c); }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kString, DType::kInt64})
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{9}, Shape{2, 3}})
        out.push_back({.inputs = {{t, shape, Fill::kSmallInts}},
                       .attributes = {{"cats_strings", std::vector<std::string>{"s1", "s-1", "s3", "s1"}},
                                      {"cats_int64s", std::vector<int64_t>{1, -1, 3, 2}},
                                      {"default_string", std::string("none")}}});
    return out;
  }
};
OCIOR_OPERATOR(CategoryMapper)

// A new last axis with a one at the place of the element's category.
struct OneHotEncoder {
  static constexpr OpInfo info{.name = "OneHotEncoder", .domain = ml::kMl};
  Index<int64_t> numbers;
  Index<std::string> names;
  int64_t count = 0;
  bool text = false, zeros = true;

  static OneHotEncoder parse(const NodeReader& node) {
    const ml::Labels categories = ml::Labels::parse(node, "cats_int64s", "cats_strings");
    OneHotEncoder op;
    op.count = categories.count();
    op.text = categories.numbers.empty();
    op.numbers = {categories.numbers, true};
    op.names = {categories.names, true};
    op.zeros = node.integer("zeros", 1) != 0;
    return op;
  }
  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(check_type(c, 0, text ? kStrings : ml::kFeatures, info.name));
    if (!ranked(c, 0)) return c.set(0, DType::kFloat, std::nullopt), Status();
    Dims out = *c.shape(0);
    out.push_back(count);
    c.set(0, DType::kFloat, std::move(out));
    return {};
  }
  Status reference(RefContext& c) const {
    const Tensor& x = c.in(0);
    const int64_t unknown = encode(x.dtype(), x.data(), c.out(0).as<float>(), 0, x.count());
    return unknown < 0 ? Status() : missing(unknown);
  }
  Status run(CpuContext& c) const {
    const TensorView& x = c.in(0);
    std::atomic<int64_t> unknown{-1};
    for_items(c, x.count(), count, [&](int64_t begin, int64_t end) {
      if (const int64_t at = encode(x.dtype, x.data, c.out(0).as<float>(), begin, end); at >= 0) unknown = at;
    });
    return unknown < 0 ? Status() : missing(unknown);
  }
  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const DType t : {DType::kFloat, DType::kDouble, DType::kInt64, DType::kInt32})
      for (const Shape& shape : {Shape{}, Shape{0}, Shape{9}, Shape{2, 3}})
        out.push_back(
            {.inputs = {{t, shape, Fill::kSmallInts}}, .attributes = {{"cats_int64s", std::vector<int64_t>{1, -1, 3, 2}}}});
    out.push_back({.inputs = {{DType::kString, {2, 9}, Fill::kSmallInts}},
                   .attributes = {{"cats_strings", std::vector<std::string>{"s1", "s-1"}}}});
    out.push_back({.inputs = {{DType::kInt64, {5}, Fill::kBools}},
                   .attributes = {{"cats_int64s", std::vector<int64_t>{1, 0}}, {"zeros", int64_t{0}}}});
    out.push_back({.inputs = {{DType::kFloat, {40}, Fill::kSpecials}},
                   .attributes = {{"cats_int64s", std::vector<int64_t>{INT64_MIN, INT64_MAX, 0, 1}}}});
    return out;
  }

 private:
  static Status missing(int64_t at) {
    return error(Code::kInvalidArgument, "OneHotEncoder: element {} is of no category, and the attribute zeros is 0", at);
  }
  // Place of element i; floats count as integers, truncated.
  int64_t place(DType t, const void* x, int64_t i) const {
    if (text) return names.find(static_cast<const std::string*>(x)[i], -1);
    if (!is_floating(t)) return numbers.find(get_int(t, x, i), -1);
    const double v = std::trunc(get_double(t, x, i));
    return v >= -0x1p63 && v < 0x1p63 ? numbers.find(static_cast<int64_t>(v), -1) : -1;
  }
  // The first element without a category that must have one, or -1.
  int64_t encode(DType t, const void* x, float* y, int64_t begin, int64_t end) const {
    std::fill(y + begin * count, y + end * count, 0.0F);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = place(t, x, i);
      if (at >= 0) y[i * count + at] = 1;
      else if (!zeros) return i;
    }
    return -1;
  }
};
OCIOR_OPERATOR(OneHotEncoder)

}  // namespace ocior::ops
