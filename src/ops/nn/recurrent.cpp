#include "ops/nn/recurrent.h"

#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/shapes.h"

namespace ocior::ops::nn {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 56;  // of any buffer: keeps byte counts in range

struct ActivationName {
  std::string_view name;  // in lower case
  CellActivation::Kind kind;
  bool has_alpha, has_beta;
  float alpha, beta;
};
constexpr ActivationName kActivationNames[] = {
    {"relu", CellActivation::kRelu, false, false, 0, 0},
    {"tanh", CellActivation::kTanh, false, false, 0, 0},
    {"sigmoid", CellActivation::kSigmoid, false, false, 0, 0},
    {"affine", CellActivation::kAffine, true, true, 1, 0},
    {"leakyrelu", CellActivation::kLeakyRelu, true, false, 0.01f, 0},
    {"thresholdedrelu", CellActivation::kThresholdedRelu, true, false, 1, 0},
    {"scaledtanh", CellActivation::kScaledTanh, true, true, 1, 1},
    {"hardsigmoid", CellActivation::kHardSigmoid, true, true, 0.2f, 0.5f},
    {"elu", CellActivation::kElu, true, false, 1, 0},
    {"softsign", CellActivation::kSoftsign, false, false, 0, 0},
    {"softplus", CellActivation::kSoftplus, false, false, 0, 0},
};

// The activations with their parameters: each function that has an alpha (a beta) takes the next one given.
std::vector<CellActivation> parse_activations(const NodeReader& node, std::vector<std::string> names) {
  const std::vector<float> alphas = node.numbers("activation_alpha"), betas = node.numbers("activation_beta");
  size_t alpha = 0, beta = 0;
  std::vector<CellActivation> out;
  for (std::string name : names) {
    const std::string given = name;
    for (char& ch : name) ch = static_cast<char>(ch >= 'A' && ch <= 'Z' ? ch - 'A' + 'a' : ch);
    const auto* known = std::ranges::find(kActivationNames, std::string_view(name), &ActivationName::name);
    if (known == std::end(kActivationNames)) {
      node.fail("activations lists '{}', which is no activation function of this operator", given);
      return {};
    }
    CellActivation& f = out.emplace_back(CellActivation{known->kind, known->alpha, known->beta});
    if (known->has_alpha && alpha < alphas.size()) f.alpha = alphas[alpha++];
    if (known->has_beta && beta < betas.size()) f.beta = betas[beta++];
  }
  return out;
}

std::vector<std::string> default_activations(CellKind kind, int64_t directions) {
  std::vector<std::string> out;
  for (int64_t d = 0; d < directions; ++d) {
    if (kind != CellKind::kRnn) out.emplace_back("Sigmoid");
    out.emplace_back("Tanh");
    if (kind == CellKind::kLstm) out.emplace_back("Tanh");
  }
  return out;
}

template <class T>
T clipped(T x, T clip) {
  return clip > 0 ? std::min(std::max(x, -clip), clip) : x;
}

}  // namespace

double CellActivation::operator()(double x) const {
  switch (kind) {
    case kRelu: return x > 0 ? x : std::isnan(x) ? x : 0;
    case kTanh: return std::tanh(x);
    case kSigmoid: return 1 / (1 + std::exp(-x));
    case kAffine: return alpha * x + beta;
    case kLeakyRelu: return x < 0 ? alpha * x : x;
    case kThresholdedRelu: return x >= alpha ? x : std::isnan(x) ? x : 0;
    case kScaledTanh: return alpha * std::tanh(beta * x);
    case kHardSigmoid: return std::isnan(x) ? x : std::min(std::max(alpha * x + beta, 0.0), 1.0);
    case kElu: return x < 0 ? alpha * std::expm1(x) : x;
    case kSoftsign: return x / (1 + std::abs(x));
    case kSoftplus: return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  }
  return x;
}

void CellActivation::apply(const KernelTable& kernels, float* x, int64_t n) const {
  switch (kind) {
    case kRelu: return kernels.unary_f32(UnaryFn::kRelu, x, x, n, 0, 0);
    case kTanh: return kernels.unary_f32(UnaryFn::kTanh, x, x, n, 0, 0);
    case kSigmoid: return kernels.unary_f32(UnaryFn::kSigmoid, x, x, n, 0, 0);
    case kLeakyRelu: return kernels.unary_f32(UnaryFn::kLeakyRelu, x, x, n, alpha, 0);
    case kHardSigmoid: return kernels.unary_f32(UnaryFn::kHardSigmoid, x, x, n, alpha, beta);
    case kElu: return kernels.unary_f32(UnaryFn::kElu, x, x, n, alpha, 0);
    case kSoftplus: return kernels.unary_f32(UnaryFn::kSoftplus, x, x, n, 0, 0);
    case kAffine:
    case kThresholdedRelu:
    case kScaledTanh:
    case kSoftsign: break;
  }
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>((*this)(x[i]));
}

Recurrent Recurrent::parse(const NodeReader& node, CellKind kind) {
  Recurrent op;
  op.kind = kind;
  const std::string direction = node.text("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    node.fail("direction is '{}'; expected 'forward', 'reverse' or 'bidirectional'", direction);
  op.reverse = direction == "reverse";
  op.directions = direction == "bidirectional" ? 2 : 1;
  op.hidden_size = node.integer("hidden_size", 0);
  if (op.hidden_size < 0 || (op.hidden_size == 0 && node.has("hidden_size")))
    node.fail("hidden_size is {}; expected a positive number", op.hidden_size);
  op.clip = node.number("clip", 0);
  if (!(op.clip >= 0)) node.fail("clip is {}; expected a positive number", op.clip);
  if (node.opset() >= 14) {
    const int64_t layout = node.integer("layout", 0);
    if (layout != 0 && layout != 1) node.fail("layout is {}; expected 0 or 1", layout);
    op.batch_first = layout == 1;
  }
  if (node.opset() < 7) node.ignore("output_sequence");  // says whether Y is wanted, as its name does
  if (kind == CellKind::kLstm) op.coupled = node.integer("input_forget", 0) != 0;
  if (kind == CellKind::kGru && node.opset() >= 3) op.linear_before_reset = node.integer("linear_before_reset", 0) != 0;

  const auto want = static_cast<size_t>(op.directions * op.functions());
  std::vector<std::string> names = node.texts("activations");
  if (names.empty()) names = default_activations(kind, op.directions);
  // The schema's default of RNN names a function for each of two directions.
  if (kind == CellKind::kRnn && op.directions == 1 && names.size() == 2) names.resize(1);
  if (names.size() != want) node.fail("activations lists {} functions; expected {}", names.size(), want);
  op.activations = parse_activations(node, std::move(names));
  return op;
}

namespace {

// Input i, when given, has a shape that can be `want`.
Status check_shape(const ShapeContext& c, int i, std::string_view name, const Dims& want) {
  if (!c.has(i) || !c.shape(i) || may_equal(*c.shape(i), want)) return {};
  return error(Code::kInvalidArgument, "{} has shape {}; expected {}", name, to_string(*c.shape(i)), to_string(want));
}

Status check_sizes(const Dims& sizes) {
  int64_t product = 1;
  for (const Dim& d : sizes)
    if (!d.known()) return {};
    else if (__builtin_mul_overflow(product, std::max<int64_t>(d.value(), 1), &product) || product > kMostElements)
      return error(Code::kInvalidArgument, "sequences, batch and gates of {} elements are too many to compute", to_string(sizes));
  return {};
}

}  // namespace

Status Recurrent::infer(ShapeContext& c) const {
  OCIOR_RETURN_IF_ERROR(check_floats(c, {kX, kW, kR, kB, kInitialH}));
  if (kind == CellKind::kLstm) OCIOR_RETURN_IF_ERROR(check_floats(c, {kInitialC, kPeepholes}));
  if (c.has(kLengths) && c.dtype(kLengths) != DType::kInt32)
    return error(Code::kInvalidGraph, "sequence_lens is {}; expected int32", name_of(c.dtype(kLengths)));
  for (const int i : {kX, kW, kR})
    if (c.shape(i) && c.shape(i)->size() != 3)
      return error(Code::kInvalidGraph, "input {} has shape {}; expected three axes", i, to_string(*c.shape(i)));

  Dim hidden = hidden_size ? Dim(hidden_size) : c.shape(kR) ? (*c.shape(kR))[2] : c.fresh("hidden");
  const Dims x = c.shape(kX) ? *c.shape(kX) : Dims{c.fresh("steps"), c.fresh("batch"), c.fresh("input")};
  const Dim &steps = x[batch_first ? 1 : 0], &batch = x[batch_first ? 0 : 1], width = hidden * Dim(gates()), two(directions);
  if ((x[2].known() && x[2].value() < 1) || (hidden.known() && hidden.value() < 1))
    return error(Code::kInvalidArgument, "X has shape {} and the hidden size is {}; expected at least one feature and one unit",
                 to_string(x), hidden.text());
  if (hidden.known() && hidden.value() > INT32_MAX)
    return error(Code::kInvalidArgument, "a hidden size of {} is too large", hidden.value());
  OCIOR_RETURN_IF_ERROR(check_sizes({two, steps, batch, width}));
  OCIOR_RETURN_IF_ERROR(check_shape(c, kW, "W", {two, width, x[2]}));
  OCIOR_RETURN_IF_ERROR(check_shape(c, kR, "R", {two, width, hidden}));
  OCIOR_RETURN_IF_ERROR(check_shape(c, kB, "B", {two, width * Dim(2)}));
  OCIOR_RETURN_IF_ERROR(check_shape(c, kLengths, "sequence_lens", {batch}));
  const Dims state = batch_first ? Dims{batch, two, hidden} : Dims{two, batch, hidden};
  OCIOR_RETURN_IF_ERROR(check_shape(c, kInitialH, "initial_h", state));
  if (kind == CellKind::kLstm) {
    OCIOR_RETURN_IF_ERROR(check_shape(c, kInitialC, "initial_c", state));
    OCIOR_RETURN_IF_ERROR(check_shape(c, kPeepholes, "P", {two, hidden * Dim(3)}));
  }
  c.set(kY, c.dtype(kX), batch_first ? Dims{batch, steps, two, hidden} : Dims{steps, two, batch, hidden});
  for (int i = kYh; i < c.outputs(); ++i) c.set(i, c.dtype(kX), state);
  return {};
}

namespace {

// One direction's weights in double, and the state of one row.
struct Cell {
  const Recurrent& op;
  const RecurrentExtents& e;
  const CellActivation* f;
  const double *w, *r, *b, *p;  // b and p may be null
  std::vector<double> h, c;

  double bias(int64_t i) const { return b ? b[i] : 0; }
  double peephole(int64_t i) const { return p ? p[i] : 0; }
  double dot(const double* matrix, int64_t row, const double* v, int64_t n) const {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += matrix[row * n + i] * v[i];
    return sum;
  }
  double cut(double x) const { return clipped(x, static_cast<double>(op.clip)); }
  // What gate g of unit j adds up to, biases included.
  double gate(const double* x, int64_t g, int64_t j) const {
    const int64_t row = g * e.hidden + j;
    return dot(w, row, x, e.input) + dot(r, row, h.data(), e.hidden) + bias(row) + bias(e.width() + row);
  }

  void rnn(const double* x) {
    std::vector<double> next = h;
    for (int64_t j = 0; j < e.hidden; ++j) next[static_cast<size_t>(j)] = f[0](cut(gate(x, 0, j)));
    h = std::move(next);
  }

  void gru(const double* x) {
    std::vector<double> z = h, reset = h, next = h;
    for (int64_t j = 0; j < e.hidden; ++j) {
      z[static_cast<size_t>(j)] = f[0](cut(gate(x, 0, j)));
      reset[static_cast<size_t>(j)] = f[0](cut(gate(x, 1, j)));
    }
    std::vector<double> kept = h;
    for (size_t j = 0; j < h.size(); ++j) kept[j] *= reset[j];
    for (int64_t j = 0; j < e.hidden; ++j) {
      const int64_t row = 2 * e.hidden + j;
      const auto k = static_cast<size_t>(j);
      const double recurrent = op.linear_before_reset ? reset[k] * (dot(r, row, h.data(), e.hidden) + bias(e.width() + row))
                                                      : dot(r, row, kept.data(), e.hidden) + bias(e.width() + row);
      const double candidate = f[1](cut(dot(w, row, x, e.input) + bias(row) + recurrent));
      next[k] = (1 - z[k]) * candidate + z[k] * h[k];
    }
    h = std::move(next);
  }

  void lstm(const double* x) {
    std::vector<double> next = h;
    for (int64_t j = 0; j < e.hidden; ++j) {
      double& cell = c[static_cast<size_t>(j)];
      const double in = f[0](cut(gate(x, 0, j) + peephole(j) * cell));
      const double forget = op.coupled ? 1 - in : f[0](cut(gate(x, 2, j) + peephole(2 * e.hidden + j) * cell));
      cell = forget * cell + in * f[1](cut(gate(x, 3, j)));
      const double out = f[0](cut(gate(x, 1, j) + peephole(e.hidden + j) * cell));
      next[static_cast<size_t>(j)] = out * f[2](cell);
    }
    h = std::move(next);
  }

  void step(const double* x) {
    if (op.kind == CellKind::kRnn) rnn(x);
    else if (op.kind == CellKind::kGru) gru(x);
    else lstm(x);
  }
};

}  // namespace

Status Recurrent::reference(RefContext& c) const {
  const RecurrentExtents e = extents(c);
  const auto read = [&](int i) { return c.has(i) ? doubles(c.in(i)) : std::vector<double>(); };
  const auto of = [](const std::vector<double>& v, int64_t at) { return v.empty() ? nullptr : v.data() + at; };
  const bool lstm = kind == CellKind::kLstm;
  const std::vector<double> x = read(kX), w = read(kW), r = read(kR), bias = read(kB), h0 = read(kInitialH),
                            c0 = lstm ? read(kInitialC) : std::vector<double>(),
                            peepholes = lstm ? read(kPeepholes) : std::vector<double>();
  std::vector<double> y(c.wants(kY) ? static_cast<size_t>(c.out(kY).count()) : 0),
      h(c.wants(kYh) ? static_cast<size_t>(c.out(kYh).count()) : 0),
      cells(c.wants(kYc) ? static_cast<size_t>(c.out(kYc).count()) : 0);
  if (y.empty() && h.empty() && cells.empty()) return {};
  const auto units = static_cast<size_t>(e.hidden);
  for (int64_t d = 0; d < directions; ++d)
    for (int64_t b = 0; b < e.batch; ++b) {
      Cell cell{*this,
                e,
                functions_of(d),
                w.data() + d * e.width() * e.input,
                r.data() + d * e.width() * e.hidden,
                of(bias, d * 2 * e.width()),
                of(peepholes, d * 3 * e.hidden),
                std::vector<double>(units),
                std::vector<double>(units)};
      if (!h0.empty()) std::copy_n(h0.data() + e.state_at(d, b), units, cell.h.begin());
      if (!c0.empty()) std::copy_n(c0.data() + e.state_at(d, b), units, cell.c.begin());
      OCIOR_ASSIGN(const int64_t length, length_of(c.has(kLengths) ? c.in(kLengths).data() : nullptr, e, b));
      for (int64_t i = 0; i < length; ++i) {
        const int64_t t = backwards(d) ? length - 1 - i : i;
        cell.step(x.data() + e.x_row(t, b) * e.input);
        if (!y.empty()) std::copy_n(cell.h.begin(), units, y.data() + e.y_at(t, d, b));
      }
      if (!h.empty()) std::copy_n(cell.h.begin(), units, h.data() + e.state_at(d, b));
      if (!cells.empty()) std::copy_n(cell.c.begin(), units, cells.data() + e.state_at(d, b));
    }
  if (c.wants(kY)) store(c.out(kY), y);
  if (c.wants(kYh)) store(c.out(kYh), h);
  if (c.wants(kYc)) store(c.out(kYc), cells);
  return {};
}

Result<int64_t> length_of(const void* lengths, const RecurrentExtents& e, int64_t b) {
  if (!lengths) return e.steps;
  const int64_t length = get_int(DType::kInt32, lengths, b);
  if (length >= 0 && length <= e.steps) return length;
  return error(Code::kInvalidArgument, "sequence_lens[{}] is {}; expected 0 to {}", b, length, e.steps);
}

}  // namespace ocior::ops::nn
