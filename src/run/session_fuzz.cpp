// libFuzzer target: models that are nearly valid. The bytes choose operators from the registry with the inputs of their samples,
// chain them, and change what a file can get wrong: shapes, types, attributes, values, omitted inputs, what is constant and what
// is fed. Each is written, loaded and run by kernels and by references, within limits of memory and time. What a run gives must
// have the types that the load announced. Operators with subgraphs are left to the readers' fuzzer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "ocior/session.h"
#include "onnx/model.h"
#include "ops/harness.h"

namespace ocior {
namespace {

constexpr int64_t kMostElements = 4096;  // of an input
constexpr int kMostNodes = 5;

// Choices made by the fuzzer's bytes; all zero when they are used up.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t byte() { return at_ < size_ ? data_[at_++] : uint8_t{0}; }
  size_t below(size_t n) { return n < 2 ? 0 : (n <= 256 ? byte() : byte() << 8 | byte()) % n; }
  bool once_in(size_t n) { return below(n) == n - 1; }  // false when the bytes are used up
  int64_t number() {
    static constexpr int64_t kNumbers[] = {0,
                                           1,
                                           2,
                                           3,
                                           4,
                                           7,
                                           16,
                                           17,
                                           64,
                                           255,
                                           4096,
                                           -1,
                                           -2,
                                           -3,
                                           -17,
                                           1 << 16,
                                           int64_t{1} << 31,
                                           int64_t{1} << 40,
                                           INT64_MAX,
                                           INT64_MIN,
                                           INT32_MAX,
                                           INT32_MIN};
    return kNumbers[below(std::size(kNumbers))];
  }
  double real() {
    static constexpr double kReals[] = {0, 1, -1, 0.5, 1e-30, 1e30, -1e30, 3.5, 65504, 1e300, -0.0};
    const size_t i = below(std::size(kReals) + 3);
    if (i < std::size(kReals)) return kReals[i];
    const double inf = std::numeric_limits<double>::infinity();
    return i == std::size(kReals) ? inf : i == std::size(kReals) + 1 ? -inf : std::nan("");
  }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

// What the operators' samples say, made once; those that a file cannot say in plain attributes are left out.
struct Candidate {
  const ops::OpEntry* entry;
  std::vector<ops::Sample> samples;
};
const std::vector<Candidate>& candidates() {
  static const std::vector<Candidate> all = [] {
    std::vector<Candidate> out;
    for (const ops::OpEntry& entry : ops::all_operators()) {
      if (entry.info->domain == ops::kOcior) continue;
      Candidate c{&entry, {}};
      for (ops::Sample& s : entry.samples()) {
        const bool plain = std::ranges::none_of(s.attributes, [](const auto& a) {
          return std::holds_alternative<std::shared_ptr<graph::Graph>>(a.second) || std::holds_alternative<graph::Type>(a.second);
        });
        const bool small = std::ranges::all_of(s.inputs, [](const auto& i) { return element_count(i.shape) <= kMostElements; });
        if (plain && small && !s.bench) c.samples.push_back(std::move(s));
      }
      if (!c.samples.empty()) out.push_back(std::move(c));
    }
    return out;
  }();
  return all;
}

onnx::Tensor tensor_of(const Tensor& t, std::string name) {
  onnx::Tensor out;
  out.name = std::move(name), out.dtype = t.dtype(), out.dims = t.shape();
  if (t.dtype() == DType::kString) {
    const auto strings = t.span<std::string>();
    out.strings.assign(strings.begin(), strings.end());
  } else {
    const auto* from = static_cast<const std::byte*>(t.data());
    out.owned = std::make_shared<const std::vector<std::byte>>(from, from + t.bytes());
    out.raw = *out.owned;
  }
  return out;
}

class ModelMaker {
 public:
  explicit ModelMaker(Bytes& bytes) : bytes_(bytes) {}

  void make() {
    const size_t nodes = 1 + bytes_.below(kMostNodes);
    for (size_t i = 0; i < nodes; ++i) add_node();
    for (const auto& [name, dtype] : values_)
      if (!used(name) || bytes_.once_in(4)) model_.graph.outputs.push_back({.name = name});
    model_.ir_version = 10;
    model_.opset_imports = {
        {"", opset_ > 0 ? opset_ : ops::kNewestOpset}, {"ai.onnx.ml", 5}, {"com.microsoft", 1}, {"ai.onnx.preview.training", 1}};
    model_.graph.name = "g";
  }
  const onnx::Model& model() const { return model_; }
  std::span<const Feed> feeds() const { return feeds_; }

 private:
  void add_node() {
    const Candidate& c = candidates()[bytes_.below(candidates().size())];
    ops::Sample sample = c.samples[bytes_.below(c.samples.size())];
    if (opset_ == 0 && c.entry->info->domain.empty()) opset_ = sample.opset;
    if (bytes_.once_in(3)) change_input(sample);
    if (bytes_.once_in(3)) change_attribute(sample);
    onnx::Node node;
    node.name = "node" + std::to_string(model_.graph.nodes.size());
    node.op_type = c.entry->info->name, node.domain = c.entry->info->domain;
    add_attributes(node, sample.attributes);
    add_inputs(node, sample);
    for (int i = 0; i < sample.outputs; ++i) {
      node.outputs.push_back(node.name + "_" + std::to_string(i));
      values_.emplace_back(node.outputs.back(), i == 0 && !sample.inputs.empty() ? sample.inputs[0].dtype : DType::kUndefined);
    }
    model_.graph.nodes.push_back(std::move(node));
  }

  void add_inputs(onnx::Node& node, const ops::Sample& sample) {
    auto tensors = ops::make_inputs(sample, bytes_.byte());
    if (!tensors.ok()) return;
    for (size_t i = 0; i < tensors->size(); ++i) {
      Tensor& t = (*tensors)[i];
      if (!t.defined()) {
        node.inputs.emplace_back();
        continue;
      }
      if (!values_.empty() && bytes_.once_in(3)) {  // an earlier value, of the wanted type if it is easily found
        auto found = std::ranges::find(values_, t.dtype(), &std::pair<std::string, DType>::second);
        if (found == values_.end() || bytes_.once_in(4))
          found = values_.begin() + static_cast<int64_t>(bytes_.below(values_.size()));
        node.inputs.push_back(found->first);
        continue;
      }
      if (bytes_.once_in(8)) change_values(t);
      const std::string name = node.name + "_in" + std::to_string(i);
      node.inputs.push_back(name);
      if (sample.inputs[i].constant ? !bytes_.once_in(8) : bytes_.once_in(4))
        model_.graph.initializers.push_back(tensor_of(t, name));
      else feed(name, std::move(t));
    }
  }

  void feed(const std::string& name, Tensor t) {
    onnx::Type type{.kind = onnx::Type::Kind::kTensor, .dtype = t.dtype(), .has_shape = !bytes_.once_in(8)};
    for (const int64_t d : t.shape()) {
      if (!type.has_shape) break;
      const size_t how = bytes_.below(4);
      type.shape.push_back(how == 0   ? onnx::Dimension{d, ""}
                           : how == 1 ? onnx::Dimension{-1, "d" + std::to_string(d)}
                           : how == 2 ? onnx::Dimension{-1, name + std::to_string(type.shape.size())}
                                      : onnx::Dimension{});
    }
    model_.graph.inputs.push_back({.name = name, .type = std::move(type)});
    names_.push_back(std::make_unique<std::string>(name));
    feeds_.push_back({*names_.back(), Value(std::move(t))});
  }

  void change_input(ops::Sample& sample) {
    if (sample.inputs.empty()) return;
    ops::SampleInput& input = sample.inputs[bytes_.below(sample.inputs.size())];
    Shape shape = input.shape;
    switch (bytes_.below(6)) {
      case 0:
        if (!shape.empty()) shape[bytes_.below(shape.size())] = static_cast<int64_t>(bytes_.below(20));
        break;
      case 1: shape.push_back(static_cast<int64_t>(bytes_.below(4))); break;
      case 2:
        if (!shape.empty()) shape.erase(shape.begin() + static_cast<int64_t>(bytes_.below(shape.size())));
        break;
      case 3: input.dtype = static_cast<DType>(1 + bytes_.below(23)); break;
      case 4: input.omitted = !input.omitted; break;
      default: input.constant = !input.constant; break;
    }
    if (element_count(shape) > kMostElements) return;
    if (shape != input.shape && !input.values.empty())  // the values again from the first on
      for (size_t i = 0, n = input.values.size(), m = static_cast<size_t>(element_count(shape)); i < m || i == 0; ++i) {
        if (i >= n) input.values.push_back(input.values[i % n]);
        if (i + 1 >= m) {
          input.values.resize(m);
          break;
        }
      }
    input.shape = std::move(shape);
  }

  void change_values(Tensor& t) {
    if (t.count() == 0 || t.dtype() == DType::kString || t.dtype() == DType::kComplex64 || t.dtype() == DType::kComplex128)
      return;
    for (size_t n = 1 + bytes_.below(4); n > 0; --n) {
      const auto at = static_cast<int64_t>(bytes_.below(static_cast<size_t>(t.count())));
      if (is_floating(t.dtype())) set_double(t.dtype(), t.data(), at, bytes_.real());
      else if (t.dtype() == DType::kBool) t.as<uint8_t>()[at] = static_cast<uint8_t>(bytes_.below(2));
      else set_int(t.dtype(), t.data(), at, bytes_.number());
    }
  }

  void change_attribute(ops::Sample& sample) {
    if (sample.attributes.empty()) return;
    auto it = std::next(sample.attributes.begin(), static_cast<int64_t>(bytes_.below(sample.attributes.size())));
    if (bytes_.once_in(6)) {
      sample.attributes.erase(it);
      return;
    }
    graph::AttributeValue& v = it->second;
    if (auto* i = std::get_if<int64_t>(&v)) *i = bytes_.number();
    else if (auto* f = std::get_if<float>(&v)) *f = static_cast<float>(bytes_.real());
    else if (auto* s = std::get_if<std::string>(&v)) s->push_back(static_cast<char>(bytes_.byte()));
    else if (auto* is = std::get_if<std::vector<int64_t>>(&v)) change_list(*is, bytes_.number());
    else if (auto* fs = std::get_if<std::vector<float>>(&v)) change_list(*fs, static_cast<float>(bytes_.real()));
    else if (auto* ss = std::get_if<std::vector<std::string>>(&v)) change_list(*ss, std::string("x"));
  }
  template <class T>
  void change_list(std::vector<T>& list, T value) {
    if (list.empty() || bytes_.once_in(4)) list.push_back(std::move(value));
    else if (bytes_.once_in(4)) list.pop_back();
    else list[bytes_.below(list.size())] = std::move(value);
  }

  static void add_attributes(onnx::Node& node, const graph::Attributes& attributes) {
    using Kind = onnx::Attribute::Kind;
    for (const auto& [name, v] : attributes) {
      onnx::Attribute a;
      a.name = name;
      if (const auto* i = std::get_if<int64_t>(&v)) a.kind = Kind::kInt, a.i = *i;
      else if (const auto* f = std::get_if<float>(&v)) a.kind = Kind::kFloat, a.f = *f;
      else if (const auto* s = std::get_if<std::string>(&v)) a.kind = Kind::kString, a.s = *s;
      else if (const auto* is = std::get_if<std::vector<int64_t>>(&v)) a.kind = Kind::kInts, a.ints = *is;
      else if (const auto* fs = std::get_if<std::vector<float>>(&v)) a.kind = Kind::kFloats, a.floats = *fs;
      else if (const auto* ss = std::get_if<std::vector<std::string>>(&v)) a.kind = Kind::kStrings, a.strings = *ss;
      else if (const auto* t = std::get_if<Tensor>(&v)) a.kind = Kind::kTensor, a.tensors = {tensor_of(*t, "")};
      node.attributes.push_back(std::move(a));
    }
  }

  bool used(const std::string& name) const {
    return std::ranges::any_of(model_.graph.nodes,
                               [&](const auto& n) { return std::ranges::find(n.inputs, name) != n.inputs.end(); });
  }

  Bytes& bytes_;
  onnx::Model model_;
  int opset_ = 0;
  std::vector<std::pair<std::string, DType>> values_;  // what nodes give; the type is a guess
  std::vector<std::unique_ptr<std::string>> names_;
  std::vector<Feed> feeds_;
};

// Ends the process when a run gave something else than the load announced.
void check_types(const Session& session, std::span<const Value> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const ValueInfo& info = session.outputs()[i];
    if (info.kind != values[i].kind() || !values[i].is_tensor()) continue;
    bool same = info.dtype == DType::kUndefined || info.dtype == values[i].dtype();
    if (info.has_shape) {
      same = same && info.shape.size() == values[i].shape().size();
      for (size_t d = 0; same && d < info.shape.size(); ++d)
        same = info.shape[d].value < 0 || info.shape[d].value == values[i].shape()[d];
    }
    if (same) continue;
    std::fprintf(stderr, "output '%s' has another type or shape than the session says\n", info.name.c_str());
    abort();
  }
}

void load_and_run(const std::string& bytes, std::span<const Feed> feeds, const char* reference) {
  SessionOptions options{.intra_op_num_threads = 1};
  options.config = {{"ocior.cache", "0"}, {"ocior.memory_limit", "16777216"}, {"ocior.reference", reference}};
  const auto session = Session::load(std::as_bytes(std::span(bytes)), options);
  if (!session.ok()) return;
  RunOptions run;
  run.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(1));
  const auto values = session->run(feeds, {}, &run);
  if (values.ok()) check_types(*session, *values);
}

}  // namespace
}  // namespace ocior

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ocior::Bytes bytes(data, size);
  ocior::ModelMaker maker(bytes);
  maker.make();
  const auto file = ocior::onnx::write_bytes(maker.model());
  if (!file.ok()) return 0;
  ocior::load_and_run(*file, maker.feeds(), "0");
  ocior::load_and_run(*file, maker.feeds(), "1");
  return 0;
}
