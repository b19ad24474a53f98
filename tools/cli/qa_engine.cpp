// See qa_engine.h.
#include "qa_engine.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "half.h"
#include "model_source.h"

namespace ocior::cli {
namespace {

constexpr size_t kBatchTokens = 2048;  // padded tokens of a run: enough to fill the cores, few enough to stay in their caches

// One whole question's work in progress.
struct Pending {
  std::vector<std::vector<float>> start, end;  // one row per window
  size_t missing = 0;
};

Result<Value> integers(DType dtype, size_t rows, size_t length, std::span<const int64_t> values) {
  const int64_t shape[] = {static_cast<int64_t>(rows), static_cast<int64_t>(length)};
  if (dtype == DType::kInt64) return Value::of<int64_t>(shape, values);
  const std::vector<int32_t> narrow(values.begin(), values.end());
  return Value::of<int32_t>(shape, narrow);
}

// A tensor [rows, at least length] of any float type as rows of `length` floats.
Result<std::vector<std::vector<float>>> float_rows(const Value& value, const std::string& name, size_t rows, size_t length) {
  const auto shape = value.shape();
  if (shape.size() != 2 || shape[0] < static_cast<int64_t>(rows) || shape[1] < static_cast<int64_t>(length)) {
    return error(Code::kInvalidArgument,
                 "the model's output '{}' has shape [{}]; question answering needs [rows, tokens], here [{}, {}]", name,
                 fmt::join(shape, ", "), rows, length);
  }
  const auto width = static_cast<size_t>(shape[1]);
  std::vector<std::vector<float>> out(rows, std::vector<float>(length));
  const auto fill = [&]<class T>(const T* data, auto convert) {
    for (size_t r = 0; r < rows; ++r) std::transform(data + r * width, data + r * width + length, out[r].begin(), convert);
  };
  switch (value.dtype()) {
    case DType::kFloat: fill(static_cast<const float*>(value.data()), [](float x) { return x; }); break;
    case DType::kDouble: fill(static_cast<const double*>(value.data()), [](double x) { return static_cast<float>(x); }); break;
    case DType::kFloat16: fill(static_cast<const uint16_t*>(value.data()), from_half); break;
    case DType::kBFloat16: fill(static_cast<const uint16_t*>(value.data()), from_bfloat16); break;
    default:
      return error(Code::kInvalidArgument, "the model's output '{}' is {}; logits must be floats", name, name_of(value.dtype()));
  }
  return out;
}

// The same batch with more rows and columns of padding.
text::Batch padded(const text::Batch& batch, size_t rows, size_t length, int64_t pad_id) {
  text::Batch out;
  out.rows = rows;
  out.length = length;
  out.ids.assign(rows * length, pad_id);
  out.attention_mask.assign(rows * length, 0);
  out.type_ids.assign(rows * length, 0);
  for (size_t r = 0; r < batch.rows; ++r) {
    for (size_t i = 0; i < batch.length; ++i) {
      out.ids[r * length + i] = batch.ids[r * batch.length + i];
      out.attention_mask[r * length + i] = batch.attention_mask[r * batch.length + i];
      out.type_ids[r * length + i] = batch.type_ids[r * batch.length + i];
    }
  }
  return out;
}

std::optional<uint64_t> positions_of(const Session& session) {
  const auto it = session.metadata().custom.find("max_position_embeddings");
  if (it == session.metadata().custom.end() || it->second.empty() || it->second.size() > 9) return {};
  if (it->second.find_first_not_of("0123456789") != std::string::npos) return {};
  return std::stoull(it->second);
}

}  // namespace

Result<QaEngine> QaEngine::open(const std::string& model, const SessionOptions& options) {
  std::string path = model;
  if (path.empty()) {
    OCIOR_ASSIGN(path, default_model());
  }
  OCIOR_ASSIGN(LoadedModel loaded, load_model(path, options));
  OCIOR_ASSIGN(text::Tokenizer tokenizer, text::Tokenizer::from_folder(loaded.folder));
  QaEngine engine(std::move(loaded.session), std::move(tokenizer));
  Status usable = engine.find_inputs();
  if (usable.ok()) usable = engine.find_outputs();
  OCIOR_RETURN_IF_ERROR(with_context(std::move(usable), path));
  engine.pad_id_ = engine.tokenizer_.special_ids().pad.value_or(0);
  return engine;
}

Status QaEngine::find_inputs() {
  using Role = Input::Role;
  const std::pair<std::string_view, Role> known[] = {{"input_ids", Role::kIds},
                                                     {"attention_mask", Role::kMask},
                                                     {"token_type_ids", Role::kTypes},
                                                     {"position_ids", Role::kPositions}};
  for (const ValueInfo& info : session_.inputs()) {
    const auto* found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == info.name; });
    if (found == std::end(known)) {
      return error(Code::kInvalidArgument,
                   "input '{}' is not one of question answering (input_ids, attention_mask, token_type_ids, position_ids); "
                   "use a model for that task",
                   info.name);
    }
    if (info.kind != Value::Kind::kTensor || (info.dtype != DType::kInt64 && info.dtype != DType::kInt32)) {
      return error(Code::kInvalidArgument, "input '{}' is a {}; question answering needs tensor(int64) or tensor(int32)",
                   info.name, info.type_string());
    }
    if (info.has_shape && info.shape.size() == 2)
      rows_ = std::max(rows_, info.shape[0].value), length_ = std::max(length_, info.shape[1].value);
    inputs_.push_back({found->second, info.name, info.dtype});
  }
  const bool ids = std::any_of(inputs_.begin(), inputs_.end(), [](const Input& i) { return i.role == Role::kIds; });
  return ids ? Status() : error(Code::kInvalidArgument, "there is no input 'input_ids'; use a model for question answering");
}

Status QaEngine::find_outputs() {
  std::vector<std::string> start, end, others;
  for (const ValueInfo& info : session_.outputs()) {
    if (info.kind != Value::Kind::kTensor || !is_floating(info.dtype) || (info.has_shape && info.shape.size() != 2)) continue;
    if (info.name.find("start") != std::string::npos) start.push_back(info.name);
    else if (info.name.find("end") != std::string::npos) end.push_back(info.name);
    else others.push_back(info.name);
  }
  if (!start.empty() && !end.empty()) outputs_ = {start.front(), end.front()};
  else if (start.empty() && end.empty() && others.size() >= 2) outputs_ = {others[0], others[1]};
  else
    return error(Code::kInvalidArgument, "the outputs are not start_logits and end_logits; use a model for question answering");
  return {};
}

Result<text::PreparedQuestion> QaEngine::prepare(std::string_view question, std::string_view context,
                                                 text::PrepareOptions options) const {
  const auto& said = tokenizer_.config().model_max_length;
  const auto positions = positions_of(session_);
  if (said && positions) options.model_max_len = std::min(*said, *positions);
  else options.model_max_len = said ? said : positions;
  if (length_ > 0) {
    options.model_max_len = static_cast<uint64_t>(length_);
    if (!options.max_seq_len) options.max_seq_len = options.model_max_len;
  }
  return text::prepare(tokenizer_, question, context, options);
}

Result<std::vector<Value>> QaEngine::feed(const text::Batch& batch) const {
  std::vector<int64_t> positions;
  std::vector<Value> out;
  for (const Input& input : inputs_) {
    const std::vector<int64_t>* values = &batch.ids;
    if (input.role == Input::Role::kMask) values = &batch.attention_mask;
    if (input.role == Input::Role::kTypes) values = &batch.type_ids;
    if (input.role == Input::Role::kPositions) {
      for (size_t r = 0; r < batch.rows; ++r)
        for (size_t i = 0; i < batch.length; ++i) positions.push_back(static_cast<int64_t>(i));
      values = &positions;
    }
    OCIOR_ASSIGN(Value value, integers(input.dtype, batch.rows, batch.length, *values));
    out.push_back(std::move(value));
  }
  return out;
}

// Start and end logits of the batch's rows, one after the other.
Result<std::vector<std::vector<float>>> QaEngine::run(const text::Batch& batch, RunOptions* options) const {
  const size_t rows = rows_ > 0 ? static_cast<size_t>(rows_) : batch.rows,
               length = length_ > 0 ? static_cast<size_t>(length_) : batch.length;
  OCIOR_ASSIGN(const auto values,
               feed(rows == batch.rows && length == batch.length ? batch : padded(batch, rows, length, pad_id_)));
  std::vector<Feed> feeds;
  for (size_t i = 0; i < inputs_.size(); ++i) feeds.push_back({inputs_[i].name, values[i]});
  OCIOR_ASSIGN(const auto outputs, session_.run(feeds, outputs_, options));
  OCIOR_ASSIGN(auto out, float_rows(outputs[0], outputs_[0], batch.rows, batch.length));
  OCIOR_ASSIGN(auto end, float_rows(outputs[1], outputs_[1], batch.rows, batch.length));
  std::move(end.begin(), end.end(), std::back_inserter(out));
  return out;
}

Status QaEngine::answer(std::span<const text::PreparedQuestion> questions, const text::AnswerOptions& options, const Done& done,
                        RunOptions* run_options) const {
  std::vector<const text::Window*> windows;
  std::vector<std::pair<size_t, size_t>> places;  // question, window
  std::vector<Pending> pending(questions.size());
  for (size_t q = 0; q < questions.size(); ++q) {
    pending[q].missing = questions[q].windows.size();
    pending[q].start.resize(pending[q].missing);
    pending[q].end.resize(pending[q].missing);
    for (size_t w = 0; w < questions[q].windows.size(); ++w)
      windows.push_back(&questions[q].windows[w]), places.emplace_back(q, w);
  }
  std::vector<size_t> lengths(windows.size());
  std::transform(windows.begin(), windows.end(), lengths.begin(), [](const text::Window* w) { return w->size(); });
  size_t next = 0;  // the first question that was not reported
  for (const std::vector<size_t>& chosen : batches(lengths)) {
    std::vector<const text::Window*> rows;
    for (const size_t i : chosen) rows.push_back(windows[i]);
    OCIOR_ASSIGN(auto logits, run(text::make_batch(rows, pad_id_), run_options));
    for (size_t r = 0; r < chosen.size(); ++r) {
      const auto [q, w] = places[chosen[r]];
      pending[q].start[w] = std::move(logits[r]);
      pending[q].end[w] = std::move(logits[chosen.size() + r]);
      --pending[q].missing;
    }
    for (; next < questions.size() && pending[next].missing == 0; ++next) {
      const std::vector<std::span<const float>> start(pending[next].start.begin(), pending[next].start.end());
      const std::vector<std::span<const float>> end(pending[next].end.begin(), pending[next].end.end());
      OCIOR_ASSIGN(auto answers, text::answer(questions[next], start, end, options));
      OCIOR_RETURN_IF_ERROR(done(next, std::move(answers)));
      pending[next] = {};
    }
  }
  return {};
}

// Groups windows so that a run has work for every core; one by one, or by the model's own number, where its shape is fixed.
std::vector<std::vector<size_t>> QaEngine::batches(std::span<const size_t> lengths) const {
  if (rows_ <= 0 && length_ <= 0) return text::plan_batches(lengths, kBatchTokens);
  const size_t most = rows_ > 0 ? static_cast<size_t>(rows_) : std::max<size_t>(1, kBatchTokens / static_cast<size_t>(length_));
  std::vector<std::vector<size_t>> out;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (i % most == 0) out.emplace_back();
    out.back().push_back(i);
  }
  return out;
}

}  // namespace ocior::cli
