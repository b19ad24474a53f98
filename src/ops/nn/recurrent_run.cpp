// How a float RNN, GRU or LSTM runs. One matrix product projects all steps; then blocks of batch rows walk their sequences, which
// do not depend on each other: on a thread each, or, when they are few and large, with every product shared by all threads. What
// is computed for a row is the same either way.
#include <cmath>

#include "ops/nn/numeric.h"
#include "ops/nn/recurrent.h"

namespace ocior::ops::nn {
namespace {

constexpr int64_t kBlockRows = 32;  // batch rows that walk their sequences together

// The packed weights of all directions. GRU's candidate has a product of its own.
struct PackedCells final : Prepared {
  std::unique_ptr<Weights> input[2], recurrent[2], candidate[2];
};

// The part of a direction's recurrent weights that one product takes.
struct Part {
  int64_t first = 0, columns = 0;  // gate rows of R
};
Part recurrent_part(CellKind kind, const RecurrentExtents& e) { return {0, kind == CellKind::kGru ? 2 * e.hidden : e.width()}; }
Part candidate_part(CellKind kind, const RecurrentExtents& e) { return {2 * e.hidden, kind == CellKind::kGru ? e.hidden : 0}; }

}  // namespace

Result<std::unique_ptr<Prepared>> Recurrent::prepare(PrepareContext& c) const {
  const Tensor *w = c.constant(kW), *r = c.constant(kR);
  for (const Tensor* t : {w, r})
    if (!t || t->dtype() != DType::kFloat || !t->dense() || t->rank() != 3 || t->shape()[0] != directions)
      return std::unique_ptr<Prepared>();
  RecurrentExtents e;
  e.input = w->shape()[2], e.hidden = r->shape()[2], e.gates = gates();
  if (w->shape()[1] != e.width() || r->shape()[1] != e.width()) return std::unique_ptr<Prepared>();
  const std::optional<Dims>& x = c.in(kX).shape;
  const int64_t rows = known_rows(c.in(kX));
  const int64_t batch = x && x->size() == 3 && (*x)[batch_first ? 0 : 1].known() ? (*x)[batch_first ? 0 : 1].value() : -1;
  auto packed = std::make_unique<PackedCells>();
  for (int64_t d = 0; d < directions; ++d) {
    const float* const own = r->as<float>() + d * e.width() * e.hidden;
    const auto pack = [&](const Part& part) {
      return Weights::pack(c, {own + part.first * e.hidden, e.hidden, true}, std::min(batch, kBlockRows), part.columns, e.hidden);
    };
    packed->input[d] = Weights::pack(c, {w->as<float>() + d * e.width() * e.input, e.input, true}, rows, e.width(), e.input);
    packed->recurrent[d] = pack(recurrent_part(kind, e));
    if (kind == CellKind::kGru) packed->candidate[d] = pack(candidate_part(kind, e));
  }
  c.release(kW), c.release(kR);
  return std::unique_ptr<Prepared>(std::move(packed));
}

namespace {

// A right operand of the recurrent products: packed at load or by this run.
struct Operand {
  const Weights* weights = nullptr;
  void* packed = nullptr;
  int64_t n = 0, k = 0;

  void choose(GemmArgs& args) const {
    args.n = n, args.k = k;
    if (weights) weights->choose(args);
    else args.b = packed, args.precision = Precision::kHighest;
  }
};

// All that a run works with. Every pointer lies in the run's scratch.
struct Plan {
  RecurrentExtents e;
  float *gates = nullptr, *bias = nullptr, *h = nullptr, *c = nullptr, *sums = nullptr;
  int64_t* lengths = nullptr;
  Operand recurrent[2], candidate[2];
  std::byte *product = nullptr, *left = nullptr;  // scratch of the input projection; of one block's recurrent product each
  size_t left_bytes = 0, bytes = 0;

  int64_t blocks() const { return chunks_of(e.batch, kBlockRows); }
  int64_t row(int64_t d, int64_t b) const { return d * e.batch + b; }
};

// Scratch of `operand`'s left operands, for blocks of at most `rows` rows.
size_t left_scratch(const KernelTable& kernels, const Operand& operand, int64_t rows) {
  if (operand.n == 0) return 0;
  size_t most = 0;
  for (const int64_t m : {rows, std::min(rows, kBlockRows)}) {
    const Precision p = operand.weights ? operand.weights->precision(m) : Precision::kHighest;
    most = std::max(most, align64(kernels.gemm_a_bytes(m, operand.n, operand.k, p)));
  }
  return most;
}

template <class Context>
Plan make_plan(const Context& c, const Recurrent& op, int workers, void* base) {
  Plan p;
  p.e = op.extents(c);
  const RecurrentExtents& e = p.e;
  const auto* const packed = static_cast<const PackedCells*>(c.prepared());
  const KernelTable& kernels = c.kernels();
  Carver carver(base);
  const auto rows = static_cast<size_t>(e.directions * e.batch), units = static_cast<size_t>(e.hidden);
  const auto width = static_cast<size_t>(e.width());
  p.gates = carver.take<float>(rows * static_cast<size_t>(e.steps) * width);
  p.bias = carver.take<float>(static_cast<size_t>(e.directions) * width);
  p.h = carver.take<float>(rows * units);
  p.c = carver.take<float>(rows * units);
  p.sums = carver.take<float>(rows * width);
  p.lengths = carver.take<int64_t>(static_cast<size_t>(e.batch));
  size_t product = 0;
  for (int64_t d = 0; d < e.directions; ++d) {
    const auto operand = [&](const Part& part, const Weights* weights) {
      Operand o{weights, nullptr, part.columns, e.hidden};
      if (part.columns && !weights) o.packed = carver.take(kernels.gemm_b_bytes(o.n, o.k, Precision::kHighest));
      return o;
    };
    p.recurrent[d] = operand(recurrent_part(op.kind, e), packed ? packed->recurrent[d].get() : nullptr);
    p.candidate[d] = operand(candidate_part(op.kind, e), packed ? packed->candidate[d].get() : nullptr);
    const int64_t m = e.steps * e.batch;
    product = std::max(product, packed ? packed_scratch(kernels, packed->input[d].get(), m, e.width(), e.input)
                                       : plain_scratch(kernels, workers, 1, m, e.width(), e.input));
    for (const Operand* o : {&p.recurrent[d], &p.candidate[d]})
      for (const int64_t m_block : {std::min(e.batch, kBlockRows), e.batch % kBlockRows})
        p.left_bytes = std::max(p.left_bytes, left_scratch(kernels, *o, m_block));
  }
  p.product = carver.take(product);
  p.left = carver.take(p.left_bytes * static_cast<size_t>(e.directions * p.blocks()));
  p.bytes = carver.used();
  return p;
}

// How a run walks: blocks of rows each on their own thread, or one block after the other with its products shared.
class Walk {
 public:
  Walk(CpuContext& c, const Recurrent& op, const Plan& plan) : c_(c), op_(op), p_(plan), e_(plan.e), kernels_(c.kernels()) {}

  void project() const;
  void all() const;

 private:
  struct Block {
    int64_t d, first, rows;
    std::byte* left;
    bool shared;  // the products of this block are spread over the team
  };
  void block(const Block& k) const;
  void multiply(const Block& k, const Operand& operand, const float* from, float* to) const;
  template <class F>
  void each_row(const Block& k, F&& f) const;
  void row(const Block& k, int64_t b, int64_t step) const;
  void rnn(int64_t d, float* gates, const float* sums, float* h) const;
  void gru_gates(int64_t d, float* gates, const float* sums, float* h, float* kept) const;
  void gru_candidate(int64_t d, float* gates, const float* sums, float* h) const;
  void lstm(int64_t d, float* gates, const float* sums, float* h, float* c) const;

  float* gates_at(const Block& k, int64_t b, int64_t step) const {
    const int64_t t = op_.backwards(k.d) ? p_.lengths[b] - 1 - step : step;
    return p_.gates + (k.d * e_.steps * e_.batch + e_.x_row(t, b)) * e_.width();
  }
  void add(const float* a, const float* b, float* y, int64_t n) const { kernels_.binary_f32(BinaryFn::kAdd, a, 1, b, 1, y, n); }
  void mul(const float* a, const float* b, float* y, int64_t n) const { kernels_.binary_f32(BinaryFn::kMul, a, 1, b, 1, y, n); }
  void activate(const CellActivation& f, float* x, int64_t n) const {
    if (op_.clip > 0) kernels_.unary_f32(UnaryFn::kClip, x, x, n, -op_.clip, op_.clip);
    f.apply(kernels_, x, n);
  }

  CpuContext& c_;
  const Recurrent& op_;
  const Plan& p_;
  const RecurrentExtents& e_;
  const KernelTable& kernels_;
};

// gates = X W^T + biases, for all steps at once.
void Walk::project() const {
  const auto* const packed = static_cast<const PackedCells*>(c_.prepared());
  const int64_t width = e_.width(), rows = e_.steps * e_.batch;
  for (int64_t d = 0; d < e_.directions; ++d) {
    float* const bias = p_.bias + d * width;
    if (c_.has(kB)) {
      const float* const own = c_.in(kB).as<float>() + d * 2 * width;
      add(own, own + width, bias, width);
      // Behind the reset gate, the recurrent bias of the candidate is no part of the input's.
      if (op_.linear_before_reset) std::copy_n(own + 2 * e_.hidden, e_.hidden, bias + 2 * e_.hidden);
    }
    GemmArgs args;
    args.a = c_.in(kX).as<float>(), args.lda = e_.input, args.c = p_.gates + d * rows * width, args.ldc = width;
    args.m = rows, args.n = width, args.k = e_.input;
    args.epilogue.bias = c_.has(kB) ? bias : nullptr;
    if (packed) {
      multiply_with(c_, *packed->input[d], args, p_.product);
      continue;
    }
    multiply_plain(c_, args, {c_.in(kW).as<float>() + d * width * e_.input, e_.input, true}, p_.product);
    const float* const r = c_.in(kR).as<float>() + d * width * e_.hidden;
    for (const auto& [operand, part] :
         {std::pair{&p_.recurrent[d], recurrent_part(op_.kind, e_)}, std::pair{&p_.candidate[d], candidate_part(op_.kind, e_)}})
      if (operand->n)
        kernels_.gemm_pack_b(r + part.first * e_.hidden, e_.hidden, true, operand->n, operand->k, 0, operand->n,
                             Precision::kHighest, operand->packed);
  }
}

// to[row, :] = from[row, :] R^T for the rows of the block, which `from` and `to` begin with.
void Walk::multiply(const Block& k, const Operand& operand, const float* from, float* to) const {
  GemmArgs args;
  args.m = k.rows;
  operand.choose(args);
  args.a = from, args.lda = e_.hidden, args.c = to, args.ldc = e_.width();
  if (kernels_.gemm_a_bytes(args.m, args.n, args.k, args.precision)) {
    args.a_packed = k.left;
    kernels_.gemm_pack_a(args, 0, args.m);
  }
  GemmGrid grid = kernels_.gemm_grid(args.m, args.n, args.k, args.precision);
  if (k.shared) {
    constexpr int64_t kWork = 1 << 16;  // multiply-adds of a piece that is worth a worker's while
    const int64_t panel = kernels_.gemm_panel(args.precision);
    const int64_t panels = std::max<int64_t>(1, kWork / (args.m * args.k * panel));
    grid.n_step = std::min(grid.n_step, panels * panel);
    grid.n_chunks = chunks_of(args.n, grid.n_step);
    c_.team().parallel_for(grid.m_chunks * grid.n_chunks, c_.stop(),
                           [&](int64_t i, int) { kernels_.gemm_chunk(args, grid, i % grid.m_chunks, i / grid.m_chunks); });
    return;
  }
  for (int64_t j = 0; j < grid.n_chunks; ++j)
    for (int64_t i = 0; i < grid.m_chunks; ++i) kernels_.gemm_chunk(args, grid, i, j);
}

void Walk::rnn(int64_t d, float* gates, const float* sums, float* h) const {
  add(gates, sums, h, e_.hidden);
  activate(op_.functions_of(d)[0], h, e_.hidden);
}

// Update and reset gates; `kept` becomes what the reset gate lets through of h, where the candidate's product reads it.
void Walk::gru_gates(int64_t d, float* gates, const float* sums, float* h, float* kept) const {
  const int64_t n = e_.hidden;
  add(gates, sums, gates, 2 * n);
  activate(op_.functions_of(d)[0], gates, 2 * n);
  if (!op_.linear_before_reset) mul(gates + n, h, kept, n);
}

void Walk::gru_candidate(int64_t d, float* gates, const float* sums, float* h) const {
  const int64_t n = e_.hidden;
  float *const z = gates, *const reset = gates + n, *const candidate = gates + 2 * n;
  const float* recurrent = sums + 2 * n;
  if (op_.linear_before_reset) {
    if (c_.has(kB)) {
      const float* const bias = c_.in(kB).as<float>() + d * 2 * e_.width() + e_.width() + 2 * n;
      for (int64_t j = 0; j < n; ++j) reset[j] *= recurrent[j] + bias[j];
    } else {
      mul(reset, recurrent, reset, n);
    }
    recurrent = reset;
  }
  add(candidate, recurrent, candidate, n);
  activate(op_.functions_of(d)[1], candidate, n);
  for (int64_t j = 0; j < n; ++j) h[j] = (1 - z[j]) * candidate[j] + z[j] * h[j];
}

void Walk::lstm(int64_t d, float* gates, const float* sums, float* h, float* c) const {
  const int64_t n = e_.hidden;
  const CellActivation* const f = op_.functions_of(d);
  float *const in = gates, *const out = gates + n, *const forget = gates + 2 * n, *const candidate = gates + 3 * n;
  const float* const peepholes = c_.has(kPeepholes) ? c_.in(kPeepholes).as<float>() + d * 3 * n : nullptr;
  add(gates, sums, gates, 4 * n);
  const auto peep = [&](float* gate, const float* weights) {
    for (int64_t j = 0; j < n; ++j) gate[j] += weights[j] * c[j];
  };
  if (peepholes) peep(in, peepholes), peep(forget, peepholes + 2 * n);
  if (peepholes || op_.coupled) activate(f[0], in, n);
  else activate(f[0], in, 3 * n);
  if (op_.coupled)
    for (int64_t j = 0; j < n; ++j) forget[j] = 1 - in[j];
  else if (peepholes) activate(f[0], forget, n);
  activate(f[1], candidate, n);
  mul(forget, c, c, n);
  mul(in, candidate, in, n);
  add(c, in, c, n);
  if (peepholes) peep(out, peepholes + n);
  if (peepholes || op_.coupled) activate(f[0], out, n);
  std::copy_n(c, n, candidate);
  f[2].apply(kernels_, candidate, n);
  mul(out, candidate, h, n);
}

template <class F>
void Walk::each_row(const Block& k, F&& f) const {
  const auto one = [&](int64_t i, int) { f(k.first + i); };
  if (k.shared && k.rows > 1) return c_.team().parallel_for(k.rows, c_.stop(), one);
  for (int64_t i = 0; i < k.rows; ++i) one(i, 0);
}

// The step of row b after all products that it needs.
void Walk::row(const Block& k, int64_t b, int64_t step) const {
  const int64_t r = p_.row(k.d, b);
  float *const gates = gates_at(k, b, step), *const h = p_.h + r * e_.hidden, *const sums = p_.sums + r * e_.width();
  if (op_.kind == CellKind::kRnn) rnn(k.d, gates, sums, h);
  else if (op_.kind == CellKind::kGru) gru_candidate(k.d, gates, sums, h);
  else lstm(k.d, gates, sums, h, p_.c + r * e_.hidden);
  const int64_t t = op_.backwards(k.d) ? p_.lengths[b] - 1 - step : step;
  if (c_.wants(kY)) std::copy_n(h, e_.hidden, c_.out(kY).as<float>() + e_.y_at(t, k.d, b));
}

void Walk::block(const Block& k) const {
  int64_t steps = 0;
  for (int64_t b = k.first; b < k.first + k.rows; ++b) steps = std::max(steps, p_.lengths[b]);
  float* const sums = p_.sums + p_.row(k.d, k.first) * e_.width();
  const float *const h = p_.h + p_.row(k.d, k.first) * e_.hidden, *const kept = p_.c + p_.row(k.d, k.first) * e_.hidden;
  for (int64_t step = 0; step < steps && !(c_.stop() && c_.stop()->requested()); ++step) {
    multiply(k, p_.recurrent[k.d], h, sums);
    if (op_.kind == CellKind::kGru) {
      each_row(k, [&](int64_t b) {
        const int64_t r = p_.row(k.d, b);
        if (step < p_.lengths[b])
          gru_gates(k.d, gates_at(k, b, step), p_.sums + r * e_.width(), p_.h + r * e_.hidden, p_.c + r * e_.hidden);
      });
      multiply(k, p_.candidate[k.d], op_.linear_before_reset ? h : kept, sums + 2 * e_.hidden);
    }
    each_row(k, [&](int64_t b) {
      if (step < p_.lengths[b]) row(k, b, step);
    });
  }
}

void Walk::all() const {
  constexpr int64_t kSharedWork = 1 << 18;  // multiply-adds of a step from which several threads are faster
  const int64_t blocks = p_.blocks(), tasks = e_.directions * blocks;
  const int64_t largest = std::min(e_.batch, kBlockRows);
  const bool share = tasks < c_.team().size() && largest * e_.width() >= kSharedWork / e_.hidden;
  const auto one = [&](int64_t i) {
    const int64_t first = i % blocks * kBlockRows;
    block({i / blocks, first, std::min(kBlockRows, e_.batch - first), p_.left + static_cast<size_t>(i) * p_.left_bytes, share});
  };
  if (!share) return c_.team().parallel_for_dynamic(tasks, c_.stop(), [&](int64_t i, int) { one(i); });
  for (int64_t i = 0; i < tasks; ++i) one(i);
}

// Outputs of steps behind a sequence's end are 0.
void zero_tails(CpuContext& c, const Plan& p) {
  for (int64_t b = 0; b < p.e.batch; ++b)
    for (int64_t t = p.lengths[b]; t < p.e.steps; ++t)
      for (int64_t d = 0; d < p.e.directions; ++d) std::fill_n(c.out(kY).as<float>() + p.e.y_at(t, d, b), p.e.hidden, 0.0f);
}

// Moves initial states into the walk's order, and last states out of it.
void load_state(const CpuContext& c, const RecurrentExtents& e, int input, float* to) {
  for (int64_t d = 0; d < e.directions; ++d)
    for (int64_t b = 0; b < e.batch; ++b, to += e.hidden)
      if (c.has(input)) std::copy_n(c.in(input).as<float>() + e.state_at(d, b), e.hidden, to);
      else std::fill_n(to, e.hidden, 0.0f);
}
void save_state(const CpuContext& c, const RecurrentExtents& e, const float* from, int output) {
  if (!c.wants(output)) return;
  for (int64_t d = 0; d < e.directions; ++d)
    for (int64_t b = 0; b < e.batch; ++b, from += e.hidden)
      std::copy_n(from, e.hidden, c.out(output).as<float>() + e.state_at(d, b));
}

}  // namespace

size_t Recurrent::scratch(const BindContext& c) const {
  if (c.in(kX).dtype != DType::kFloat) return 0;
  return make_plan(c, *this, c.workers(), nullptr).bytes;
}

double Recurrent::work(const BindContext& c) const {
  const RecurrentExtents e = extents(c);
  return 2.0 * static_cast<double>(directions * e.steps * e.batch) * static_cast<double>(e.width()) *
         static_cast<double>(e.input + e.hidden);
}

Status Recurrent::run(CpuContext& c) const {
  if (c.in(kX).dtype != DType::kFloat) return run_by_reference(*this, c);
  const Plan p = make_plan(c, *this, c.team().size(), c.scratch());
  if (p.e.batch == 0) return {};
  for (int64_t b = 0; b < p.e.batch; ++b) {
    OCIOR_ASSIGN(p.lengths[b], length_of(c.has(kLengths) ? c.in(kLengths).data : nullptr, p.e, b));
  }
  load_state(c, p.e, kInitialH, p.h);
  load_state(c, p.e, kInitialC, p.c);  // GRU keeps there what its reset gates let through
  const Walk walk(c, *this, p);
  if (p.e.steps > 0) walk.project(), walk.all();
  if (c.wants(kY)) zero_tails(c, p);
  save_state(c, p.e, p.h, kYh);
  if (kind == CellKind::kLstm) save_state(c, p.e, p.c, kYc);
  return {};
}

std::string Recurrent::describe(const Prepared* prepared) const {
  if (!prepared) return describe_product(nullptr);
  return describe_product(static_cast<const PackedCells*>(prepared)->input[0].get());
}

}  // namespace ocior::ops::nn
