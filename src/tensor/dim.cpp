#include "tensor/dim.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.h"

namespace ocior {
namespace {

constexpr size_t kMaxTerms = 64;  // larger polynomials become one symbol named by their text
constexpr size_t kMaxText = 256;  // names of expressions in expressions would grow exponentially: longer ones are hashed

Dim opaque(const std::string& text) {
  if (text.size() <= kMaxText) return Dim::symbol(text);
  const XXH128_hash_t h = XXH3_128bits(text.data(), text.size());
  return Dim::symbol(fmt::format("expr#{:016x}{:016x}", h.high64, h.low64));
}

}  // namespace

Dim Dim::symbol(const std::string& name) { return Dim(Terms{{Monomial{name}, 1}}); }

Dim::Dim(Terms terms) {
  if (terms.empty()) return;
  if (terms.size() == 1 && terms.begin()->first.empty()) {
    value_ = terms.begin()->second;
    return;
  }
  terms_ = std::make_shared<const Terms>(std::move(terms));
}

Dim::Terms Dim::terms() const {
  if (terms_) return *terms_;
  return value_ == 0 ? Terms{} : Terms{{Monomial{}, value_}};
}

bool Dim::operator==(const Dim& other) const {
  if (known() != other.known()) return false;
  return known() ? value_ == other.value_ : *terms_ == *other.terms_;
}

std::string Dim::text() const {
  if (known()) return std::to_string(value_);
  std::string out;
  for (auto it = terms_->rbegin(); it != terms_->rend(); ++it) {  // the constant last
    const auto& [monomial, coefficient] = *it;
    const uint64_t magnitude = coefficient < 0 ? -static_cast<uint64_t>(coefficient) : static_cast<uint64_t>(coefficient);
    if (!out.empty()) out += coefficient < 0 ? " - " : " + ";
    else if (coefficient < 0) out += "-";
    std::string body;
    for (const auto& s : monomial) body += (body.empty() ? "" : "*") + s;
    if (body.empty()) out += std::to_string(magnitude);
    else out += magnitude == 1 ? body : std::to_string(magnitude) + "*" + body;
  }
  return out;
}

Dim operator+(const Dim& a, const Dim& b) {
  if (a.known() && b.known()) {
    int64_t sum;
    return Dim(__builtin_add_overflow(a.value_, b.value_, &sum) ? INT64_MAX : sum);
  }
  Dim::Terms t = a.terms();
  for (const auto& [m, c] : b.terms()) {
    auto [it, fresh] = t.try_emplace(m, 0);
    if (__builtin_add_overflow(it->second, c, &it->second)) return opaque("(" + a.text() + ")+(" + b.text() + ")");
    if (it->second == 0) t.erase(it);
  }
  if (t.size() > kMaxTerms) return opaque("(" + a.text() + ")+(" + b.text() + ")");
  return Dim(std::move(t));
}

Dim operator-(const Dim& a, const Dim& b) { return a + Dim(-1) * b; }

Dim operator*(const Dim& a, const Dim& b) {
  if (a.known() && b.known()) {
    int64_t product;
    return Dim(__builtin_mul_overflow(a.value_, b.value_, &product) ? INT64_MAX : product);
  }
  Dim::Terms t;
  for (const auto& [ma, ca] : a.terms()) {
    for (const auto& [mb, cb] : b.terms()) {
      Dim::Monomial m = ma;
      m.insert(m.end(), mb.begin(), mb.end());
      std::sort(m.begin(), m.end());
      int64_t c;
      auto [it, fresh] = t.try_emplace(m, 0);
      if (m.size() > 8 || t.size() > kMaxTerms || __builtin_mul_overflow(ca, cb, &c) ||
          __builtin_add_overflow(it->second, c, &it->second))
        return opaque("(" + a.text() + ")*(" + b.text() + ")");
      if (it->second == 0) t.erase(it);
    }
  }
  return Dim(std::move(t));
}

// a / b when b is one monomial that divides every term of a.
std::optional<Dim::Terms> Dim::divided(const Terms& a, const Terms& b) {
  if (b.size() != 1) return a == b ? std::optional<Terms>(Terms{{Monomial{}, 1}}) : std::nullopt;
  const auto& [mb, cb] = *b.begin();
  Terms out;
  for (const auto& [ma, ca] : a) {
    if ((ca == INT64_MIN && cb == -1) || ca % cb != 0) return std::nullopt;
    Monomial rest = ma;
    for (const auto& s : mb) {
      const auto it = std::find(rest.begin(), rest.end(), s);
      if (it == rest.end()) return std::nullopt;
      rest.erase(it);
    }
    out[rest] = ca / cb;
  }
  return out;
}

Dim Dim::quotient(const Dim& a, const Dim& b) {
  if (a.known() && b.known() && b.value_ != 0 && !(a.value_ == INT64_MIN && b.value_ == -1)) return Dim(a.value_ / b.value_);
  if (!(b.known() && b.value_ == 0))
    if (auto exact = divided(a.terms(), b.terms())) return Dim(std::move(*exact));
  return opaque("(" + a.text() + ")/(" + b.text() + ")");
}

Dim Dim::max(const Dim& a, const Dim& b) {
  if (a == b) return a;
  if (a.known() && b.known()) return Dim(std::max(a.value_, b.value_));
  const std::string x = a.text(), y = b.text();
  return opaque("max(" + std::min(x, y) + ", " + std::max(x, y) + ")");
}

Dim Dim::min(const Dim& a, const Dim& b) {
  if (a == b) return a;
  if (a.known() && b.known()) return Dim(std::min(a.value_, b.value_));
  const std::string x = a.text(), y = b.text();
  return opaque("min(" + std::min(x, y) + ", " + std::max(x, y) + ")");
}

std::optional<std::string> Dim::single_symbol() const {
  if (known() || terms_->size() != 1) return std::nullopt;
  const auto& [m, c] = *terms_->begin();
  if (c != 1 || m.size() != 1) return std::nullopt;
  return m[0];
}

std::string to_string(const Dims& dims) {
  std::string out = "[";
  for (const Dim& d : dims) out += (out.size() > 1 ? ", " : "") + d.text();
  return out + "]";
}

}  // namespace ocior
