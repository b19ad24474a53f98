// What RNN, GRU and LSTM share: activations, directions, layouts, sequence lengths, shape inference, and how a run is driven. The
// input projection of all steps is one matrix product; then each block of batch rows walks its own sequence. Internal to
// src/ops/nn; immutable and thread-safe.
#pragma once

#include <vector>

#include "ops/nn/gemm_driver.h"
#include "ops/operator.h"

namespace ocior::ops::nn {

// f(x) with its parameters, as the `activations` attribute names it.
struct CellActivation {
  enum Kind {
    kRelu,
    kTanh,
    kSigmoid,
    kAffine,
    kLeakyRelu,
    kThresholdedRelu,
    kScaledTanh,
    kHardSigmoid,
    kElu,
    kSoftsign,
    kSoftplus
  };
  Kind kind = kTanh;
  float alpha = 0, beta = 0;

  double operator()(double x) const;
  void apply(const KernelTable& kernels, float* x, int64_t n) const;  // in place
};

enum RecurrentInput { kX, kW, kR, kB, kLengths, kInitialH, kInitialC, kPeepholes };
enum RecurrentOutput { kY, kYh, kYc };
enum class CellKind { kRnn, kGru, kLstm };

// The extents of one call.
struct RecurrentExtents {
  int64_t directions = 1, steps = 0, batch = 0, input = 0, hidden = 0, gates = 1;
  bool batch_first = false;

  int64_t width() const { return gates * hidden; }  // of all gates of one row
  int64_t x_row(int64_t t, int64_t b) const { return batch_first ? b * steps + t : t * batch + b; }
  int64_t y_at(int64_t t, int64_t d, int64_t b) const {
    return (batch_first ? (b * steps + t) * directions + d : (t * directions + d) * batch + b) * hidden;
  }
  int64_t state_at(int64_t d, int64_t b) const { return (batch_first ? b * directions + d : d * batch + b) * hidden; }
};

struct Recurrent {
  CellKind kind = CellKind::kRnn;
  int64_t hidden_size = 0;  // 0: not given
  int64_t directions = 1;
  bool reverse = false;  // of a single direction
  bool batch_first = false;
  bool coupled = false;                     // LSTM: the forget gate is 1 - input gate
  bool linear_before_reset = false;         // GRU
  float clip = 0;                           // 0: none
  std::vector<CellActivation> activations;  // of each direction in turn

  static Recurrent parse(const NodeReader& node, CellKind kind);
  Status infer(ShapeContext& c) const;
  Status reference(RefContext& c) const;
  Result<std::unique_ptr<Prepared>> prepare(PrepareContext& c) const;
  size_t scratch(const BindContext& c) const;
  double work(const BindContext& c) const;
  Status run(CpuContext& c) const;
  std::string describe(const Prepared* prepared) const;

  // The numbers that the kind of cell fixes.
  int gates() const { return kind == CellKind::kRnn ? 1 : kind == CellKind::kGru ? 3 : 4; }
  int functions() const { return static_cast<int>(kind) + 1; }
  const CellActivation* functions_of(int64_t d) const { return activations.data() + d * functions(); }
  bool backwards(int64_t d) const { return d == 1 || reverse; }

  template <class Context>
  RecurrentExtents extents(const Context& c) const {
    const auto shape_of = [&c](int i) -> std::span<const int64_t> {
      if constexpr (std::is_base_of_v<RefContext, Context>) return c.in(i).shape();
      else return c.in(i).shape;
    };
    const auto x = shape_of(kX), r = shape_of(kR);
    return {directions, x[batch_first ? 1 : 0], x[batch_first ? 0 : 1], x[2], r[2], gates(), batch_first};
  }
};

// The length of row b by sequence_lens (null: all steps), which must be within the sequence.
Result<int64_t> length_of(const void* lengths, const RecurrentExtents& e, int64_t b);

}  // namespace ocior::ops::nn
