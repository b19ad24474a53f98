// Values that come and go: from JSON and to it, made up, and what they hold in a few numbers. Plain functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "json_text.h"
#include "ocior/session.h"

namespace ocior::cli {

// Nested arrays to a tensor of the declared type. Floats may be "NaN", "Infinity", "-Infinity". kInvalidArgument, naming `name`,
// when the arrays are ragged, too deep, or an element does not fit the type.
Result<Value> value_from_json(const Json& json, DType dtype, const std::string& name);

// The inverse. kNotImplemented for types of less than 8 bits and 8-bit floats.
Result<Json> value_to_json(const Value& value, const std::string& name);

// Sizes for dimensions that a model leaves open: "batch=4" names a symbol, "input:0=4" the first dimension of an input.
class OpenDimensions {
 public:
  static Result<OpenDimensions> parse(std::span<const std::string> texts);
  // The shape of a made-up input. Not named: 1 for the first dimension, 16 for the others. kInvalidArgument when the rank is
  // unknown.
  Result<std::vector<int64_t>> shape_of(const ValueInfo& info);
  // kInvalidArgument when a name was given that no input has.
  Status all_used(std::span<const ValueInfo> inputs) const;

 private:
  std::map<std::string, int64_t> sizes_;
  std::map<std::string, bool> used_;
};

// Floats in [-1, 1), masks of 1, positions in order, ids below 100, types and other integers 0 or 1, uint8 in [0, 255].
Result<Value> made_up(const ValueInfo& info, std::span<const int64_t> shape, std::mt19937_64& random);

struct Statistics {
  double least = 0, most = 0, mean = 0;
  int64_t nan = 0;
};

// Over the elements that are not NaN; none for strings, complex numbers, types of less than 8 bits, and when there is no such
// element.
std::optional<Statistics> statistics_of(const Value& value);

}  // namespace ocior::cli
