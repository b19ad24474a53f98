// Scan (https://onnx.ai/onnx/operators/onnx__Scan.html): runs its body over the slices of its inputs and collects what it gives.
// Opset 8 has a batch axis in front of everything and runs every batch element by itself.
#include <algorithm>
#include <cstring>

#include "ops/control/subgraph.h"
#include "ops/evaluate.h"
#include "ops/move.h"
#include "ops/shapes.h"

namespace ocior::ops {

struct Scan {
  static constexpr OpInfo info{.name = "Scan", .since = 8, .max_inputs = kUnbounded, .max_outputs = kUnbounded, .any_kind = true};

  std::shared_ptr<graph::Graph> body;
  bool batched = false;                        // opset 8: input 0 may hold lengths, then come values with a batch axis
  std::vector<int64_t> input_axes, backwards;  // per scanned input
  std::vector<int64_t> output_axes, prepend;   // per collected output

  static Scan parse(const NodeReader& node) {
    Scan op;
    op.body = node.graph("body");
    op.batched = node.opset() < 9;
    const int64_t scanned = node.required_integer("num_scan_inputs");
    if (!op.body) {
      node.fail("attribute 'body' is required");
      return op;
    }
    const int64_t inputs = std::ssize(op.body->inputs());
    if (scanned < 1 || scanned > inputs || inputs - scanned > std::ssize(op.body->outputs()) ||
        node.outputs() > std::ssize(op.body->outputs())) {
      node.fail(
          "num_scan_inputs is {}, the body has {} inputs and {} outputs, and the node has {} outputs; expected the body's states "
          "and scanned slices in, its states and what is collected out",
          scanned, inputs, op.body->outputs().size(), node.outputs());
      return op;
    }
    const auto of_inputs = static_cast<size_t>(scanned);
    const size_t of_outputs = op.body->outputs().size() - static_cast<size_t>(inputs - scanned);
    op.backwards = list(node, op.batched ? "directions" : "scan_input_directions", of_inputs, true);
    op.input_axes = op.batched ? std::vector<int64_t>(of_inputs, 0) : list(node, "scan_input_axes", of_inputs, false);
    op.output_axes = op.batched ? std::vector<int64_t>(of_outputs, 0) : list(node, "scan_output_axes", of_outputs, false);
    op.prepend = op.batched ? std::vector<int64_t>(of_outputs, 0) : list(node, "scan_output_directions", of_outputs, true);
    return op;
  }

  std::span<const std::shared_ptr<graph::Graph>> subgraphs() const { return {&body, 1}; }

  Status infer(ShapeContext& c) const {
    OCIOR_ASSIGN(const int own, own_inputs(c, subgraphs()));
    if (own != first() + states() + scanned())
      return error(Code::kInvalidGraph, "the node has {} inputs, but the body needs {}", own, first() + states() + scanned());
    if (batched && c.has(0)) OCIOR_RETURN_IF_ERROR(check_tensor(c, 0, DType::kInt64, "the sequence lengths"));
    std::vector<Type> types;
    Dim length = c.fresh("scan");
    for (int i = 0; i < states() + scanned(); ++i) {
      if (!c.has(first() + i) || !c.in(first() + i).is_tensor())
        return error(Code::kInvalidGraph, "input {} is missing or no tensor", first() + i);
      OCIOR_ASSIGN(Type type, without_batch(c.in(first() + i), first() + i));
      if (i >= states() && type.shape) {
        OCIOR_ASSIGN(const int64_t axis, resolve_axis(input_axes[static_cast<size_t>(i - states())], std::ssize(*type.shape),
                                                      fmt::format("the axis of scanned input {}", i - states())));
        if (!length.known()) length = (*type.shape)[static_cast<size_t>(axis)];
        type.shape->erase(type.shape->begin() + axis);
      }
      types.push_back(std::move(type));
    }
    OCIOR_RETURN_IF_ERROR(infer_carried(c, *body, types, own, 0, 0, static_cast<size_t>(states())));
    for (int i = 0; i < c.outputs(); ++i) {
      OCIOR_ASSIGN(Type type, i < states() ? state_type(c, i, types[static_cast<size_t>(i)]) : collected_type(c, i, length));
      c.set(i, std::move(type));
    }
    return {};
  }

  Status reference(RefContext& c) const {
    ControlContext control(c, subgraphs());
    return batched ? scan_batches(control) : scan_all(control);
  }

  Status run(CpuContext& c) const {
    if (!c.subgraphs()) return run_by_reference(*this, c);
    ControlContext control(c, subgraphs());
    return batched ? scan_batches(control) : scan_all(control);
  }

  static std::vector<Sample> samples();

 private:
  int first() const { return batched ? 1 : 0; }
  int scanned() const { return static_cast<int>(input_axes.size()); }
  int states() const { return static_cast<int>(body->inputs().size()) - scanned(); }
  int collected() const { return static_cast<int>(output_axes.size()); }
  const Type& of_output(int i) const { return body->value(body->outputs()[static_cast<size_t>(i)]).type; }

  static std::vector<int64_t> list(const NodeReader& node, std::string_view name, size_t count, bool is_flag) {
    std::vector<int64_t> values = node.integers(name, std::vector<int64_t>(count, 0));
    if (values.size() != count) node.fail("{} has {} elements; expected {}", name, values.size(), count);
    for (const int64_t v : values)
      if (is_flag && v != 0 && v != 1) node.fail("{} holds {}; expected 0 (forward) or 1 (backward)", name, v);
    values.resize(count, 0);
    return values;
  }

  Result<Type> without_batch(const Type& type, int input) const {
    if (!batched || !type.shape) return type;
    if (type.shape->empty()) return error(Code::kInvalidGraph, "input {} is a scalar; expected a batch axis", input);
    return Type::tensor(type.dtype, Dims(type.shape->begin() + 1, type.shape->end()));
  }

  Type with_batch(ShapeContext& c, Type type) const {
    if (batched && type.shape) type.shape->insert(type.shape->begin(), c.fresh("batch"));
    return type;
  }

  Result<Type> state_type(ShapeContext& c, int i, const Type& carried) const {
    OCIOR_ASSIGN(const Type before, without_batch(c.in(first() + i), first() + i));
    return with_batch(c, after_iterations(c, before, carried));
  }

  Result<Type> collected_type(ShapeContext& c, int i, const Dim& length) const {
    const Type& element = of_output(i);
    if (!element.is_tensor())
      return error(Code::kInvalidGraph, "output {} would collect values of {}; expected tensors", i, element.text());
    if (!element.shape) return Type::tensor(element.dtype);
    Dims dims = known_dims(c, *element.shape);
    OCIOR_ASSIGN(const int64_t axis, resolve_axis(output_axes[static_cast<size_t>(i - states())], std::ssize(dims) + 1,
                                                  fmt::format("the axis of output {}", i)));
    dims.insert(dims.begin() + axis, length);
    return with_batch(c, Type::tensor(element.dtype, std::move(dims)));
  }

  // Runs the body over `length` slices. `values` are the states, which become the last ones, then the scanned inputs;
  // `collected_values` receives what is collected, in the order of the result.
  Status scan(ControlContext& c, std::span<Value> values, std::span<const int64_t> axes, int64_t length,
              std::vector<std::vector<Value>>& collected_values) const {
    std::vector<Value> inputs(values.size()), outputs;
    const auto n = static_cast<size_t>(states());
    collected_values.assign(static_cast<size_t>(collected()), {});
    for (int64_t t = 0; t < length; ++t) {
      for (size_t i = 0; i < values.size(); ++i) {
        if (i < n) {
          inputs[i] = values[i];
          continue;
        }
        OCIOR_ASSIGN(Tensor slice, slice_at(*values[i].get_tensor(), axes[i - n], backwards[i - n] ? length - 1 - t : t));
        inputs[i] = Value(std::move(slice));
      }
      OCIOR_RETURN_IF_ERROR(with_context(c.call(0, inputs, outputs), fmt::format("body, iteration {}", t)));
      for (size_t i = 0; i < n; ++i) values[i] = std::move(outputs[i]);
      for (size_t i = n; i < outputs.size(); ++i) collected_values[i - n].push_back(std::move(outputs[i]));
    }
    for (size_t i = 0; i < collected_values.size(); ++i)
      if (prepend[i]) std::reverse(collected_values[i].begin(), collected_values[i].end());
    return {};
  }

  Status scan_all(ControlContext& c) const {
    std::vector<Value> values;
    for (int i = 0; i < states() + scanned(); ++i) values.push_back(c.value(i));
    std::vector<int64_t> axes;
    int64_t length = 0;
    for (int i = 0; i < scanned(); ++i) {
      const auto shape = values[static_cast<size_t>(states() + i)].shape();
      OCIOR_ASSIGN(const int64_t axis, resolve_axis(input_axes[static_cast<size_t>(i)], std::ssize(shape),
                                                    fmt::format("the axis of scanned input {}", i)));
      const int64_t extent = shape[static_cast<size_t>(axis)];
      if (i > 0 && extent != length)
        return error(Code::kInvalidArgument, "scanned input {} has {} slices, the first has {}; expected as many", i, extent,
                     length);
      length = extent;
      axes.push_back(axis);
    }
    std::vector<std::vector<Value>> results;
    OCIOR_RETURN_IF_ERROR(scan(c, values, axes, length, results));
    for (int i = 0; i < c.outputs(); ++i) {
      if (i < states()) {
        OCIOR_ASSIGN(Value state,
                     length > 0 ? Result<Value>(values[static_cast<size_t>(i)]) : own(values[static_cast<size_t>(i)]));
        OCIOR_RETURN_IF_ERROR(c.set_value(i, std::move(state)));
        continue;
      }
      const auto k = static_cast<size_t>(i - states());
      OCIOR_ASSIGN(Tensor all, stack(results[k], output_axes[k], of_output(i), fmt::format("output {}", i)));
      OCIOR_RETURN_IF_ERROR(c.set_value(i, Value(std::move(all))));
    }
    return {};
  }

  // Batch size, most slices, and the number of slices of every batch element.
  Status batch_lengths(const ControlContext& c, int64_t& longest, std::vector<int64_t>& lengths) const {
    const Value scanned_first = c.value(1 + states());
    const auto sizes = scanned_first.shape();
    if (sizes.size() < 2)
      return error(Code::kInvalidArgument, "the first scanned input has shape {}; expected a batch axis and a sequence axis",
                   to_string(sizes));
    const int64_t batch = sizes[0];
    longest = sizes[1];
    for (int i = 0; i < states() + scanned(); ++i) {
      const Value value = c.value(1 + i);
      const auto shape = value.shape();
      if (shape.empty() || shape[0] != batch || (i >= states() && (shape.size() < 2 || shape[1] != longest)))
        return error(Code::kInvalidArgument, "input {} has shape {}; expected a batch of {}{}", 1 + i, to_string(shape), batch,
                     i < states() ? "" : fmt::format(" and {} slices", longest));
    }
    lengths.assign(static_cast<size_t>(batch), longest);
    const Value given = c.value(0);
    if (!given.is_tensor()) return {};
    if (given.element_count() != batch)
      return error(Code::kInvalidArgument, "the sequence lengths have shape {}; expected {} of them", to_string(given.shape()),
                   batch);
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t n = lengths[static_cast<size_t>(b)] = get_int(given.dtype(), given.data(), b);
      if (n < 0 || n > longest) return error(Code::kInvalidArgument, "sequence length {} is {}; expected 0 to {}", b, n, longest);
    }
    return {};
  }

  Status scan_batches(ControlContext& c) const {
    int64_t longest = 0;
    std::vector<int64_t> lengths;
    OCIOR_RETURN_IF_ERROR(batch_lengths(c, longest, lengths));
    const std::vector<int64_t> axes(static_cast<size_t>(scanned()), 0);
    std::vector<std::vector<Value>> rows(static_cast<size_t>(states() + collected()));  // per output, then per batch element
    for (size_t b = 0; b < lengths.size(); ++b) {
      std::vector<Value> values;
      for (int i = 0; i < states() + scanned(); ++i) {
        OCIOR_ASSIGN(Tensor row, slice_at(*c.value(1 + i).get_tensor(), 0, static_cast<int64_t>(b)));
        values.push_back(Value(std::move(row)));
      }
      std::vector<std::vector<Value>> results;
      OCIOR_RETURN_IF_ERROR(with_context(scan(c, values, axes, lengths[b], results), fmt::format("batch element {}", b)));
      for (int i = 0; i < states(); ++i) rows[static_cast<size_t>(i)].push_back(std::move(values[static_cast<size_t>(i)]));
      for (int i = 0; i < collected(); ++i) {
        OCIOR_ASSIGN(Tensor row,
                     stack(results[static_cast<size_t>(i)], 0, of_output(states() + i), fmt::format("output {}", states() + i)));
        OCIOR_ASSIGN(row, padded(row, longest));
        rows[static_cast<size_t>(states() + i)].push_back(Value(std::move(row)));
      }
    }
    for (int i = 0; i < c.outputs(); ++i) {
      Type element = of_output(i);  // of a row, for a batch of none
      if (i >= states() && element.shape) element.shape->insert(element.shape->begin(), Dim(longest));
      OCIOR_ASSIGN(Tensor all, stack(rows[static_cast<size_t>(i)], 0, element, fmt::format("output {}, by batch element,", i)));
      OCIOR_RETURN_IF_ERROR(c.set_value(i, Value(std::move(all))));
    }
    return {};
  }

  // Zeros behind the slices of a short batch element.
  static Result<Tensor> padded(const Tensor& row, int64_t longest) {
    if (row.shape()[0] == longest) return row;
    Shape shape = row.shape();
    shape[0] = longest;
    OCIOR_ASSIGN(Tensor out, Tensor::allocate(row.dtype(), std::move(shape)));
    if (out.dtype() != DType::kString) std::memset(out.data(), 0, out.bytes());
    copy_elements(row.dtype(), out.data(), 0, row.data(), 0, row.count());
    return out;
  }
};

std::vector<Sample> Scan::samples() {
  // state = state + slice; collects state * slice.
  const auto body = [] {
    auto g = std::make_shared<graph::Graph>();
    const Type row = Type::tensor(DType::kFloat, Dims{3});
    const graph::ValueId s = g->add_value("s", row), x = g->add_value("x", row), t = g->add_value("t", row),
                         y = g->add_value("y", row);
    g->add_input(s);
    g->add_input(x);
    if (auto add = make_operator("", "Add", kNewestOpset, {}, 2, 1); add.ok()) g->add_node("add", *add, {s, x}, {t});
    if (auto mul = make_operator("", "Mul", kNewestOpset, {}, 2, 1); mul.ok()) g->add_node("mul", *mul, {s, x}, {y});
    g->add_output(t, "t");
    g->add_output(y, "y");
    return g;
  };
  const auto one = [](int64_t v) { return std::vector<int64_t>{v}; };
  std::vector<Sample> out;
  for (const int64_t axis : {0, 1, -1})
    for (const int64_t backward : {0, 1}) {
      const Shape shape = axis == 0 ? Shape{4, 3} : Shape{3, 4};
      out.push_back({.inputs = {{.shape = {3}}, {.shape = shape}},
                     .attributes = {{"body", body()},
                                    {"num_scan_inputs", int64_t{1}},
                                    {"scan_input_axes", one(axis)},
                                    {"scan_input_directions", one(backward)},
                                    {"scan_output_axes", one(axis)},
                                    {"scan_output_directions", one(1 - backward)}},
                     .outputs = 2});
    }
  out.push_back({.inputs = {{.shape = {3}}, {.shape = {0, 3}}},
                 .attributes = {{"body", body()}, {"num_scan_inputs", int64_t{1}}},
                 .outputs = 2});
  for (const int64_t backward : {0, 1})
    out.push_back({.inputs = {{.dtype = DType::kInt64, .shape = {2}, .values = {2, 4}}, {.shape = {2, 3}}, {.shape = {2, 4, 3}}},
                   .attributes = {{"body", body()}, {"num_scan_inputs", int64_t{1}}, {"directions", one(backward)}},
                   .opset = 8,
                   .outputs = 2});
  return out;
}

OCIOR_OPERATOR(Scan)

}  // namespace ocior::ops
