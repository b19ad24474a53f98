#include "ops/math/einsum_plan.h"

#include <algorithm>
#include <array>

namespace ocior::ops::einsum {
namespace {

constexpr size_t kGreedyTerms = 32;  // more operands are multiplied from left to right: comparing all pairs
                                     // would take too long

int label_of(char ch) { return ch >= 'A' && ch <= 'Z' ? ch - 'A' : ch >= 'a' && ch <= 'z' ? 26 + ch - 'a' : -1; }

Result<Labels> parse_term(std::string_view term) {
  Labels out;
  bool ellipsis = false;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term.substr(i, 3) == "..." && !ellipsis) {
      out.push_back(Equation::kEllipsis);
      ellipsis = true;
      i += 2;
    } else if (const int label = label_of(term[i]); label >= 0) {
      out.push_back(label);
    } else {
      return error(Code::kInvalidGraph,
                   "Einsum: \"{}\" is no term; expected letters and at most "
                   "one ellipsis",
                   term.substr(0, 64));
    }
  }
  return out;
}

Result<Labels> parse_output(std::string_view text, const std::vector<Labels>& terms) {
  OCIOR_ASSIGN(Labels out, parse_term(text));
  for (size_t i = 0; i < out.size(); ++i) {
    const bool known = std::ranges::any_of(terms, [&](const Labels& t) { return std::ranges::find(t, out[i]) != t.end(); });
    if (std::count(out.begin(), out.end(), out[i]) > 1 || (!known && out[i] != Equation::kEllipsis))
      return error(Code::kInvalidGraph,
                   "Einsum: the output \"{}\" must name labels of the "
                   "operands, each once",
                   text.substr(0, 64));
  }
  return out;
}

// The labels that occur once in the whole equation, in the order of ASCII,
// after the ellipsis.
Labels implicit_output(const std::vector<Labels>& terms) {
  std::array<int, kLetters> count{};
  bool ellipsis = false;
  for (const Labels& term : terms)
    for (const int label : term) {
      if (label == Equation::kEllipsis) ellipsis = true;
      else ++count[static_cast<size_t>(label)];
    }
  Labels out;
  if (ellipsis) out.push_back(Equation::kEllipsis);
  for (int label = 0; label < kLetters; ++label)
    if (count[static_cast<size_t>(label)] == 1) out.push_back(label);
  return out;
}

double size_of(const LabelSet& labels, const std::vector<int64_t>& extent) {
  double size = 1;
  for (size_t i = 0; i < extent.size(); ++i)
    if (labels[i]) size *= static_cast<double>(extent[i]);
  return size;
}

Labels list_of(const LabelSet& set) {
  Labels out;
  for (int i = 0; i < kMostLabels; ++i)
    if (set[static_cast<size_t>(i)]) out.push_back(i);
  return out;
}

// The terms that are still to be multiplied, by number.
struct Open {
  std::vector<int> numbers;
  std::vector<LabelSet> labels;

  // What the others and the output need.
  LabelSet needed(const LabelSet& output, size_t a, size_t b) const {
    LabelSet out = output;
    for (size_t i = 0; i < labels.size(); ++i)
      if (i != a && i != b) out |= labels[i];
    return out;
  }

  // The pair whose product is smallest against what it replaces; among equals, the one with the least to multiply.
  std::pair<size_t, size_t> best(const LabelSet& output, const std::vector<int64_t>& extent) const {
    std::pair<size_t, size_t> out{0, 1};
    if (labels.size() > kGreedyTerms) return out;
    std::pair<double, double> least;
    for (size_t a = 0; a < labels.size(); ++a)
      for (size_t b = a + 1; b < labels.size(); ++b) {
        const LabelSet all = labels[a] | labels[b];
        const double made = size_of(all & needed(output, a, b), extent);
        const std::pair cost{made - size_of(labels[a], extent) - size_of(labels[b], extent), size_of(all, extent)};
        if ((a == 0 && b == 1) || cost < least) least = cost, out = {a, b};
      }
    return out;
  }
};

}  // namespace

LabelSet set_of(const Labels& labels) {
  LabelSet out;
  for (const int label : labels) out.set(static_cast<size_t>(label));
  return out;
}

Result<Equation> Equation::parse(std::string_view text, int operands) {
  std::string plain(text);
  std::erase(plain, ' ');
  std::string_view left = plain;
  const size_t arrow = left.find("->");
  if (arrow != std::string_view::npos) left = left.substr(0, arrow);
  Equation out;
  for (size_t begin = 0; begin != std::string_view::npos;) {
    const size_t comma = left.find(',', begin);
    OCIOR_ASSIGN(Labels term, parse_term(left.substr(begin, comma == std::string_view::npos ? comma : comma - begin)));
    out.terms.push_back(std::move(term));
    begin = comma == std::string_view::npos ? comma : comma + 1;
  }
  if (std::ssize(out.terms) != operands)
    return error(Code::kInvalidGraph, "Einsum: the equation has {} terms, the node {} inputs", out.terms.size(), operands);
  if (arrow == std::string_view::npos) {
    out.output = implicit_output(out.terms);
  } else {
    OCIOR_ASSIGN(out.output, parse_output(std::string_view(plain).substr(arrow + 2), out.terms));
  }
  return out;
}

Result<Axes> Axes::make(const Equation& equation, const std::vector<size_t>& ranks) {
  size_t most = 0;  // axes that an ellipsis covers
  for (size_t i = 0; i < ranks.size(); ++i) {
    const Labels& term = equation.terms[i];
    const bool open = std::ranges::find(term, Equation::kEllipsis) != term.end();
    const size_t letters = term.size() - open;
    if (open ? ranks[i] < letters : ranks[i] != letters)
      return error(Code::kInvalidArgument, "Einsum: operand {} has rank {}; its term names {} axes{}", i, ranks[i], letters,
                   open ? " and an ellipsis" : "");
    if (open) most = std::max(most, ranks[i] - letters);
  }
  if (most > kMostLabels - kLetters)
    return error(Code::kNotImplemented, "Einsum: an ellipsis covers {} axes; the limit is {}", most, kMostLabels - kLetters);
  const auto spelled = [](const Labels& term, size_t covered) {
    Labels out;
    for (const int label : term) {
      if (label != Equation::kEllipsis) out.push_back(label);
      else
        for (size_t i = covered; i-- > 0;) out.push_back(kLetters + static_cast<int>(i));
    }
    return out;
  };
  Axes out;
  for (size_t i = 0; i < ranks.size(); ++i)
    out.operands.push_back(spelled(equation.terms[i], ranks[i] + 1 - equation.terms[i].size()));
  out.output = spelled(*equation.output, most);
  return out;
}

Result<std::vector<int64_t>> extents(const Axes& axes, const std::vector<std::span<const int64_t>>& shapes) {
  std::vector<int64_t> out(kMostLabels, -1);
  for (size_t i = 0; i < shapes.size(); ++i)
    for (size_t a = 0; a < shapes[i].size(); ++a) {
      int64_t& extent = out[static_cast<size_t>(axes.operands[i][a])];
      const int64_t d = shapes[i][a];
      if (extent < 0 || extent == 1) extent = d;
      else if (d != 1 && d != extent)
        return error(Code::kInvalidArgument,
                     "Einsum: axis {} of operand {} is {}, but another axis of "
                     "its label is {}",
                     a, i, d, extent);
    }
  return out;
}

std::vector<Step> order_of(std::vector<Labels> terms, const Labels& output, const std::vector<int64_t>& extent) {
  std::vector<Step> steps;
  Open open;
  for (size_t i = 0; i < terms.size(); ++i) {
    open.numbers.push_back(static_cast<int>(i));
    open.labels.push_back(set_of(terms[i]));
  }
  const LabelSet wanted = set_of(output);
  auto next = static_cast<int>(terms.size());
  for (size_t i = 0; i < terms.size(); ++i) {  // labels of one operand alone are summed over first
    const LabelSet kept = open.labels[i] & open.needed(wanted, i, i);
    if (kept == open.labels[i]) continue;
    steps.push_back({open.numbers[i], -1, list_of(kept)});
    open.numbers[i] = next++, open.labels[i] = kept;
  }
  while (open.numbers.size() > 1) {
    const auto [a, b] = open.best(wanted, extent);
    const LabelSet kept = (open.labels[a] | open.labels[b]) & open.needed(wanted, a, b);
    steps.push_back({open.numbers[a], open.numbers[b], list_of(kept)});
    open.numbers[a] = next++, open.labels[a] = kept;
    open.numbers.erase(open.numbers.begin() + static_cast<ptrdiff_t>(b));
    open.labels.erase(open.labels.begin() + static_cast<ptrdiff_t>(b));
  }
  return steps;
}

}  // namespace ocior::ops::einsum
