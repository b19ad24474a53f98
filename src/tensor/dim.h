// Dim: a dimension (or an element of shape arithmetic) that is a number or a polynomial of symbols ("12*batch + 1").
// Symbols are names; two Dims are equal exactly when their normal forms are. What is no polynomial (a quotient, a maximum)
// becomes a symbol named by its own text, so that equal computations stay equal. Values, thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ocior {

class Dim {
 public:
  Dim(int64_t value = 0) : value_(value) {}  // NOLINT: numbers are dims
  static Dim symbol(const std::string& name);

  bool known() const { return terms_ == nullptr; }
  int64_t value() const { return value_; }  // known() only
  std::string text() const;
  bool operator==(const Dim& other) const;

  friend Dim operator+(const Dim& a, const Dim& b);
  friend Dim operator-(const Dim& a, const Dim& b);
  friend Dim operator*(const Dim& a, const Dim& b);
  // Truncating quotient as ONNX's integer Div; exact where the polynomial divides.
  static Dim quotient(const Dim& a, const Dim& b);
  static Dim max(const Dim& a, const Dim& b);
  static Dim min(const Dim& a, const Dim& b);
  // The single symbol this Dim is, if it is one.
  std::optional<std::string> single_symbol() const;

 private:
  using Monomial = std::vector<std::string>;  // sorted; empty: the constant
  using Terms = std::map<Monomial, int64_t>;  // no zero coefficients
  explicit Dim(Terms terms);
  Terms terms() const;
  static std::optional<Terms> divided(const Terms& a, const Terms& b);

  int64_t value_ = 0;
  std::shared_ptr<const Terms> terms_;  // null: the number value_
};

using Dims = std::vector<Dim>;
std::string to_string(const Dims& dims);

}  // namespace ocior
