// Resampling along axes, as Resize and Upsample mean it: for each output place of an axis the input places and their weights, and
// applying those to tensors. Internal to src/ops/image; values, thread-safe.
#pragma once

#include <vector>

#include "ops/operator.h"

namespace ocior::ops::image {

enum class Interpolation { kNearest, kLinear, kCubic };
enum class Coordinates {
  kAsymmetric,
  kHalfPixel,
  kHalfPixelSymmetric,
  kPytorchHalfPixel,
  kTfHalfPixelForNn,
  kAlignCorners,
  kTfCropAndResize
};
enum class Nearest { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil, kFloorOrCeilWhenSmaller };

struct ResampleRules {
  Interpolation mode = Interpolation::kNearest;
  Coordinates coordinates = Coordinates::kAsymmetric;
  Nearest nearest = Nearest::kFloor;
  bool antialias = false, exclude_outside = false;
  double cubic_a = -0.75, extrapolation = 0;
};

// How one axis changes: sizes, the output's length before rounding (in times the scale), the region of interest in [0, 1].
struct ResampleAxis {
  int64_t in = 0, out = 0;
  double length = 0, begin = 0, end = 1;

  bool kept(const ResampleRules& rules) const {
    const bool whole = rules.coordinates != Coordinates::kTfCropAndResize || (begin == 0 && end == 1);
    return in == out && length == static_cast<double>(in) && whole;
  }
};

// The axis's places: output o is the sum over k of weight[o * count + k] * input[index[o * count + k]], or the extrapolation
// value when outside[o].
struct Taps {
  int64_t in = 0, out = 0, count = 1;
  bool kept = false;  // output o is input o; the tables are empty
  std::vector<int64_t> index;
  std::vector<double> weight;
  std::vector<uint8_t> outside;  // empty: nowhere
};

// Fails where elements would have to come from an axis without any. Its tables take O(in + out).
Result<std::vector<Taps>> taps_of(const ResampleRules& rules, const std::vector<ResampleAxis>& axes);

// y (allocated, of the axes' outputs) from x, in double; any dtype when the mode is nearest.
void resample_reference(const ResampleRules& rules, const std::vector<Taps>& axes, const Tensor& x, Tensor& y);

// The same over the team; false when there is no fast way and nothing was done.
bool resample_run(const ResampleRules& rules, const std::vector<Taps>& axes, CpuContext& c);

}  // namespace ocior::ops::image
