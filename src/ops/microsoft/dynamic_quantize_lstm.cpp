// DynamicQuantizeLSTM of com.microsoft: LSTM with weights of bytes; the sequence as a whole and the hidden state of each step are
// quantised to bytes as DynamicQuantizeLinear does it. Computed by the reference.
#include "ops/microsoft/qlinear.h"
#include "ops/nn/recurrent.h"

namespace ocior::ops {
namespace {

// Numbers as bytes: [rows, columns] less the zero point, and their scale.
struct Rows {
  std::vector<double> values;
  double scale = 1;

  Rows(const float* x, int64_t n) : values(static_cast<size_t>(n)) {
    const quant::Dynamic q = quant::Dynamic::of(quant::bounds(x, n));
    for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = q.quantize(x[i]) - q.zero;
    scale = static_cast<double>(q.scale);
  }
};

}  // namespace

struct DynamicQuantizeLSTM {
  static constexpr OpInfo info{
      .name = "DynamicQuantizeLSTM", .domain = kMicrosoft, .min_inputs = 3, .max_inputs = 12, .max_outputs = 3};
  enum Input { kX, kW, kR, kB, kLengths, kInitialH, kInitialC, kPeepholes, kWScale, kWZero, kRScale, kRZero };

  nn::Recurrent cell;

  static DynamicQuantizeLSTM parse(const NodeReader& node) { return {nn::Recurrent::parse(node, nn::CellKind::kLstm)}; }

  Status infer(ShapeContext& c) const {
    OCIOR_RETURN_IF_ERROR(qlinear::check_given(c, {kWScale, kWZero, kRScale, kRZero}, info.name));
    for (const int i : {kX, kB, kInitialH, kInitialC, kPeepholes, kWScale, kRScale})
      if (c.has(i)) OCIOR_RETURN_IF_ERROR(check_type(c, i, type_bit(DType::kFloat), info.name));
    for (const int i : {kW, kR}) OCIOR_RETURN_IF_ERROR(check_type(c, i, qlinear::kBytes, info.name));
    if (c.has(kLengths)) OCIOR_RETURN_IF_ERROR(check_type(c, kLengths, type_bit(DType::kInt32), info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kW, kWZero, info.name));
    OCIOR_RETURN_IF_ERROR(check_same_type(c, kR, kRZero, info.name));
    const auto dim = [&](int i, size_t axis, std::string_view name) {
      return ranked(c, i) && c.shape(i)->size() == 3 ? (*c.shape(i))[axis] : c.fresh(name);
    };
    const Dim steps = dim(kX, 0, "steps"), batch = dim(kX, 1, "batch"), width = dim(kX, 2, "input"),
              hidden = dim(kR, 1, "hidden");
    const Dim directions(cell.directions), gates = hidden * Dim(4);
    if (cell.hidden_size > 0 && !nn::may_equal(hidden, Dim(cell.hidden_size)))
      return error(Code::kInvalidArgument, "{}: hidden_size is {}, but R has {} rows", info.name, cell.hidden_size,
                   hidden.text());
    OCIOR_RETURN_IF_ERROR(check_input(c, kX, "X", {steps, batch, width}));
    for (const Dim& extent : {steps, batch, width})
      if (extent.known() && extent.value() == 0)
        return error(Code::kInvalidArgument, "{}: X has shape {}; expected no empty axis", info.name, to_string(*c.shape(kX)));
    OCIOR_RETURN_IF_ERROR(check_input(c, kW, "W", {directions, width, gates}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kR, "R", {directions, hidden, gates}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kB, "B", {directions, hidden * Dim(8)}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kLengths, "sequence_lens", {batch}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kInitialH, "initial_h", {directions, batch, hidden}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kInitialC, "initial_c", {directions, batch, hidden}));
    OCIOR_RETURN_IF_ERROR(check_input(c, kPeepholes, "P", {directions, hidden * Dim(3)}));
    for (const int i : {kWScale, kWZero, kRScale, kRZero})
      if (ranked(c, i) && !nn::may_equal(*c.shape(i), Dims{directions}))
        OCIOR_RETURN_IF_ERROR(check_input(c, i, "a scale or zero point", {directions, gates}));
    c.set(0, DType::kFloat, Dims{steps, directions, batch, hidden});
    c.set(1, DType::kFloat, Dims{directions, batch, hidden});
    c.set(2, DType::kFloat, Dims{directions, batch, hidden});
    return {};
  }

  Status reference(RefContext& c) const {
    const Shape &x = c.in(kX).shape(), &r = c.in(kR).shape();
    const nn::RecurrentExtents e{cell.directions, x[0], x[1], x[2], r[1], 4, false};
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < e.batch; ++b) {
      OCIOR_ASSIGN(const int64_t length, nn::length_of(c.has(kLengths) ? c.in(kLengths).data() : nullptr, e, b));
      lengths.push_back(length);
    }
    if (c.wants(0)) std::fill_n(c.out(0).as<float>(), c.out(0).count(), 0.0f);
    for (int64_t d = 0; d < e.directions; ++d) walk(c, e, d, lengths);
    return {};
  }

  static std::vector<Sample> samples() {
    std::vector<Sample> out;
    for (const char* direction : {"forward", "reverse", "bidirectional"}) {
      const int64_t d = std::string_view(direction) == "bidirectional" ? 2 : 1;
      for (const Shape& lanes : {Shape{d}, Shape{d, 24}})
        out.push_back({.inputs = {{.shape = {4, 3, 5}},
                                  {DType::kInt8, {d, 5, 24}},
                                  {DType::kInt8, {d, 6, 24}},
                                  {.shape = {d, 48}},
                                  {.dtype = DType::kInt32, .shape = {3}, .values = {4, 2, 0}},
                                  {.shape = {d, 3, 6}},
                                  {.shape = {d, 3, 6}},
                                  {.shape = {d, 18}},
                                  {DType::kFloat, lanes, Fill::kPositive},
                                  {DType::kInt8, lanes, Fill::kSmallInts},
                                  {DType::kFloat, lanes, Fill::kPositive},
                                  {DType::kInt8, lanes, Fill::kSmallInts}},
                       .attributes = {{"direction", std::string(direction)}, {"hidden_size", int64_t{6}}},
                       .outputs = 3});
    }
    return out;
  }

 private:
  // sums[j] += row * column j of direction d of the weights in input w, whose scale and zero point follow from `scale`.
  static void add_product(const RefContext& c, int w, int scale, int64_t d, const double* row, double row_scale, double* sums) {
    const Tensor &t = c.in(w), &scales = c.in(scale), &zeros = c.in(scale + 1);
    const int64_t depth = t.shape()[1], width = t.shape()[2];
    const auto lane = [&](const Tensor& of, int64_t j) {
      return get_double(of.dtype(), of.data(), of.rank() == 1 ? d : d * width + j);
    };
    for (int64_t j = 0; j < width; ++j) {
      const double zero = lane(zeros, j);
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) sum += row[k] * (get_double(t.dtype(), t.data(), (d * depth + k) * width + j) - zero);
      sums[j] += sum * row_scale * lane(scales, j);
    }
  }

  // One direction of all rows.
  void walk(RefContext& c, const nn::RecurrentExtents& e, int64_t d, const std::vector<int64_t>& lengths) const {
    const int64_t n = e.hidden;
    const auto state = [&](int i) {
      const float* from = c.has(i) ? c.in(i).as<float>() + d * e.batch * n : nullptr;
      return from ? std::vector<float>(from, from + e.batch * n) : std::vector<float>(static_cast<size_t>(e.batch * n));
    };
    std::vector<float> h = state(kInitialH), cells = state(kInitialC);
    const Rows x(c.in(kX).as<float>(), c.in(kX).count());
    const float* bias = c.has(kB) ? c.in(kB).as<float>() + d * 8 * n : nullptr;
    const float* peepholes = c.has(kPeepholes) ? c.in(kPeepholes).as<float>() + d * 3 * n : nullptr;
    std::vector<double> gates(static_cast<size_t>(4 * n));
    for (int64_t s = 0; s < e.steps; ++s) {
      const Rows before(h.data(), e.batch * n);
      for (int64_t b = 0; b < e.batch; ++b) {
        const int64_t length = lengths[static_cast<size_t>(b)], t = cell.backwards(d) ? length - 1 - s : s;
        if (s >= length) continue;
        for (int64_t j = 0; j < 4 * n; ++j) gates[static_cast<size_t>(j)] = bias ? double{bias[j]} + double{bias[4 * n + j]} : 0;
        add_product(c, kW, kWScale, d, x.values.data() + e.x_row(t, b) * e.input, x.scale, gates.data());
        add_product(c, kR, kRScale, d, before.values.data() + b * n, before.scale, gates.data());
        step(gates, peepholes, d, n, cells.data() + b * n, h.data() + b * n);
        if (c.wants(0)) std::copy_n(h.data() + b * n, n, c.out(0).as<float>() + e.y_at(t, d, b));
      }
    }
    for (int64_t b = 0; b < e.batch; ++b) {
      if (c.wants(1)) std::copy_n(h.data() + b * n, n, c.out(1).as<float>() + e.state_at(d, b));
      if (c.wants(2)) std::copy_n(cells.data() + b * n, n, c.out(2).as<float>() + e.state_at(d, b));
    }
  }

  // The sums of the input, output, forget and cell gates of one row to its next state.
  void step(const std::vector<double>& gates, const float* peepholes, int64_t d, int64_t n, float* cells, float* h) const {
    const nn::CellActivation* f = cell.functions_of(d);
    const auto gate = [&](int64_t i, int64_t j, double of_cell) {  // peepholes: of the first three gates
      const double sum =
          gates[static_cast<size_t>(i * n + j)] + (peepholes && i < 3 ? double{peepholes[i * n + j]} * of_cell : 0);
      const auto limit = static_cast<double>(cell.clip);
      return limit > 0 ? std::clamp(sum, -limit, limit) : sum;
    };
    for (int64_t j = 0; j < n; ++j) {
      const double old = cells[j], in = f[0](gate(0, j, old));
      const double kept = cell.coupled ? 1 - in : f[0](gate(2, j, old));
      const double fresh = kept * old + in * f[1](gate(3, j, 0));
      cells[j] = static_cast<float>(fresh);
      h[j] = static_cast<float>(f[0](gate(1, j, fresh)) * f[2](fresh));
    }
  }
};
OCIOR_OPERATOR(DynamicQuantizeLSTM)

}  // namespace ocior::ops
