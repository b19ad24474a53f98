// `ocior verify`: whether a model computes what it should, by its own test data, by the reference or by ONNX Runtime.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "cli.h"
#include "feeds.h"
#include "interrupt.h"
#include "json_text.h"
#include "onnx/model.h"
#include "onnx/read_value.h"
#include "onnx_runtime.h"
#include "run/compare.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kValuesAtOnce = 32;  // intermediate values kept by one run of the search

struct VerifyFlags {
  SessionFlags session;
  FeedFlags feeds;
  std::string model, data, against;
  run::Tolerance tolerance;
  bool json = false;
};

using Values = std::vector<Value>;

class Verifier {
 public:
  Verifier(const VerifyFlags& flags, std::string path) : flags_(flags), path_(std::move(path)) {}

  Status run() {
    OCIOR_ASSIGN(const Session session, Session::load(path_, flags_.session.options()));
    session_ = &session;
    std::vector<std::string> folders;
    if (flags_.against.empty()) {
      OCIOR_ASSIGN(folders, data_sets());
    }
    if (folders.empty()) {
      OCIOR_RETURN_IF_ERROR(check_against());
    } else {
      OCIOR_ASSIGN(const onnx::Model model, onnx::read_file(path_));
      for (const std::string& folder : folders) OCIOR_RETURN_IF_ERROR(check_data_set(model, folder));
    }
    if (wrong_ > 0)
      return error(Code::kFail, "{} of {} outputs of {} differ from {}", wrong_, compared_, path_,
                   !folders.empty() ? "the test data"
                   : against_ort()  ? "onnxruntime"
                                    : "the reference");
    return {};
  }

 private:
  bool against_ort() const { return flags_.against == "ort"; }

  Result<std::vector<std::string>> data_sets() const {
    const fs::path where = flags_.data.empty() ? fs::path(path_).parent_path() : fs::path(flags_.data);
    std::vector<std::string> out;
    std::error_code wrong;
    for (const auto& entry : fs::directory_iterator(where.empty() ? "." : where, wrong))
      if (entry.path().filename().string().starts_with("test_data_set_")) out.push_back(entry.path().string());
    std::ranges::sort(out, [](const std::string& a, const std::string& b) {
      return a.size() != b.size() ? a.size() < b.size() : a < b;  // …_10 after …_9
    });
    if (out.empty() && !flags_.data.empty())
      return error(Code::kNoSuchFile, "{}: holds no folder test_data_set_0 with input_0.pb, …, output_0.pb, …", flags_.data);
    return out;
  }

  static Result<Value> read(const std::string& path, const ValueInfo& info) {
    return onnx::read_value_file(path, info.kind, info.element ? info.element->kind : Value::Kind::kTensor);
  }

  Status check_data_set(const onnx::Model& model, const std::string& folder) {
    progress_.show(one_line(folder));
    NamedValues inputs;
    for (size_t i = 0; i < model.graph.inputs.size(); ++i) {
      const std::string file = fmt::format("{}/input_{}.pb", folder, i);
      const ValueInfo* info = nullptr;
      for (const auto infos : {session_->inputs(), session_->overridable_initializers()})
        for (const ValueInfo& known : infos)
          if (known.name == model.graph.inputs[i].name) info = &known;
      if (!info || !fs::exists(file)) continue;  // a run names an input that is missing
      OCIOR_ASSIGN(Value value, read(file, *info));
      inputs.emplace_back(info->name, std::move(value));
    }
    OCIOR_ASSIGN(const Values got, session_->run(feeds_of(inputs), {}, &run_options()));
    const auto infos = session_->outputs();
    size_t there = 0;
    for (size_t i = 0; i < infos.size(); ++i) {
      const std::string file = fmt::format("{}/output_{}.pb", folder, i);
      if (!fs::exists(file)) continue;
      ++there;
      OCIOR_ASSIGN(const Value want, read(file, infos[i]));
      report(fs::path(folder).filename().string(), infos[i].name, want, got[i]);
    }
    if (there == 0) return error(Code::kNoSuchFile, "{}: has no output_0.pb to compare with", folder);
    return {};
  }

  Status check_against() {
    OCIOR_ASSIGN(const NamedValues inputs, flags_.feeds.read(*session_));
    progress_.show(against_ort() ? "running onnxruntime" : "running the reference");
    Values want;
    if (against_ort()) {
      OCIOR_ASSIGN(want, run_onnx_runtime(path_, inputs));
    } else {
      OCIOR_ASSIGN(const Session reference, Session::load(path_, options(true)));
      OCIOR_ASSIGN(want, reference.run(feeds_of(inputs), {}, &run_options()));
    }
    OCIOR_ASSIGN(const Values got, session_->run(feeds_of(inputs), {}, &run_options()));
    if (want.size() != got.size())
      return error(Code::kFail, "onnxruntime gives {} outputs, Ocior {}; only tensors are compared", want.size(), got.size());
    for (size_t i = 0; i < got.size(); ++i) report("made-up inputs", session_->outputs()[i].name, want[i], got[i]);
    if (wrong_ == 0 || against_ort()) return {};
    OCIOR_ASSIGN(const bool found, find_node(inputs));
    return found ? Status() : find_pass(inputs, want);
  }

  SessionOptions options(bool reference) const {
    SessionOptions out = flags_.session.options();
    out.config["ocior.cache"] = "0";
    if (reference) out.config["ocior.reference"] = "1";
    return out;
  }

  void report(const std::string& of, const std::string& output, const Value& want, const Value& got) {
    const run::Difference d = run::compare(want, got, flags_.tolerance);
    ++compared_;
    wrong_ += !d.equal;
    if (!flags_.json)
      return print_line(fmt::format("{}  {}  {}  {}", of, one_line(output), d.equal ? "ok" : "DIFFERS", d.text()));
    print_line(json_line(with_difference({{"of", of}, {"output", output}, {"ok", d.equal}}, d)));
  }

  static Json with_difference(Json out, const run::Difference& d) {
    out.update({{"largest", std::isfinite(d.largest) ? Json(d.largest) : Json()},
                {"index", d.where},
                {"got", d.got},
                {"expected", d.want}});
    return out;
  }

  // The model with other outputs, by the kernels or by the reference.
  static Result<Values> run_for(const onnx::Model& model, const SessionOptions& options, const NamedValues& inputs) {
    OCIOR_ASSIGN(const std::string bytes, onnx::write_bytes(model));
    OCIOR_ASSIGN(const Session session, Session::load(std::as_bytes(std::span(bytes)), options));
    return session.run(feeds_of(inputs), {}, &run_options());
  }

  // Walks over the nodes in the file's order, which is one in which they can run, some values a run.
  Result<bool> find_node(const NamedValues& inputs) {
    OCIOR_ASSIGN(onnx::Model model, onnx::read_file(path_));
    std::vector<std::pair<const onnx::Node*, std::string>> all;
    for (const onnx::Node& node : model.graph.nodes)
      for (const std::string& output : node.outputs)
        if (!output.empty()) all.emplace_back(&node, output);
    for (size_t begin = 0; begin < all.size(); begin += kValuesAtOnce) {
      const size_t end = std::min(all.size(), begin + kValuesAtOnce);
      progress_.show(fmt::format("looking for the first node that differs: value {} of {}", begin, all.size()));
      model.graph.outputs.clear();
      for (size_t i = begin; i < end; ++i) model.graph.outputs.push_back({.name = all[i].second});
      OCIOR_ASSIGN(const Values want, run_for(model, options(true), inputs));
      OCIOR_ASSIGN(const Values got, run_for(model, options(false), inputs));
      for (size_t i = begin; i < end; ++i) {
        const run::Difference d = run::compare(want[i - begin], got[i - begin], flags_.tolerance);
        if (d.equal) continue;
        print_node(*all[i].first, all[i].second, d);
        return true;
      }
    }
    return false;
  }

  void print_node(const onnx::Node& node, const std::string& output, const run::Difference& d) const {
    if (flags_.json)
      return print_line(json_line(with_difference(
          {{"first_node", node.name}, {"operator", node.op_type}, {"domain", node.domain}, {"value", output}}, d)));
    print_line(fmt::format("first node that differs: '{}' ({}), its output '{}': {}", one_line(node.name), one_line(node.op_type),
                           one_line(output), d.text()));
  }

  // No node differs alone, so what passes made of several does: without which of them do the outputs agree?
  Status find_pass(const NamedValues& inputs, const Values& want) const {
    std::vector<std::string> guilty;
    for (const Json& pass : Json::parse(session_->explain(true)).value("passes", Json::array())) {
      if (pass["fired"] == 0) continue;
      SessionOptions without = options(false);
      without.disabled_passes.push_back(pass["name"]);
      OCIOR_ASSIGN(const Session session, Session::load(path_, without));
      OCIOR_ASSIGN(const Values got, session.run(feeds_of(inputs), {}, &run_options()));
      bool equal = true;
      for (size_t i = 0; i < got.size(); ++i) equal = equal && run::compare(want[i], got[i], flags_.tolerance).equal;
      if (equal) guilty.push_back(pass["name"]);
    }
    if (flags_.json) print_line(json_line({{"first_node", nullptr}, {"passes", guilty}}));
    else if (guilty.empty()) print_line("no node differs where its output is kept, and no single pass makes the difference");
    else
      print_line(fmt::format("no node differs where its output is kept; the outputs agree without the pass {}",
                             fmt::join(guilty, ", or without ")));
    return {};
  }

  const VerifyFlags& flags_;
  std::string path_;
  const Session* session_ = nullptr;
  Progress progress_;
  int compared_ = 0, wrong_ = 0;
};

Status verify(const VerifyFlags& flags) {
  std::error_code ignored;
  const bool folder = fs::is_directory(flags.model, ignored);
  return Verifier(flags, folder ? flags.model + "/model.onnx" : flags.model).run();
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<VerifyFlags>();
  flags->feeds.random = true;
  CLI::App* command = app.add_subcommand("verify", "Check a model's outputs by its test data, the reference or ONNX Runtime");
  command->add_option("MODEL", flags->model, "ONNX file, or a folder with model.onnx")->required();
  const auto data = command->add_option("--data", flags->data, "The folder with test_data_set_* folders (default: the model's)");
  command
      ->add_option("--against", flags->against,
                   "Compare made-up inputs with Ocior's reference implementations or with the Python package onnxruntime "
                   "(default: reference, where there are no test data)")
      ->check(CLI::IsMember({"reference", "ort"}))
      ->excludes(data);
  command->add_option("--rtol", flags->tolerance.relative, "Largest relative difference of a float")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--atol", flags->tolerance.absolute, "Largest absolute difference, added to the relative one")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", flags->feeds.seed, "Seed of made-up inputs")->capture_default_str();
  flags->feeds.add_dims_to(*command);
  command->add_flag("--json", flags->json, "Print one JSON object for each output");
  flags->session.add_to(*command);
  command->footer(
      "Prints the largest difference of each output; after a difference from the reference, the first node that differs.\n"
      "Examples:\n"
      "  ocior verify model.onnx --dim batch=4\n"
      "  ocior verify model.onnx --against ort --rtol 1e-4");
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace ocior::cli
