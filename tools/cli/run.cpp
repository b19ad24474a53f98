// `ocior run`: one run of a model on files or made-up inputs.
#include <cstring>
#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli.h"
#include "feeds.h"
#include "interrupt.h"
#include "json_text.h"
#include "model_source.h"
#include "model_text.h"
#include "terminal.h"
#include "values.h"

namespace ocior::cli {
namespace {

struct RunFlags {
  SessionFlags session;
  FeedFlags feeds;
  std::string model, output;
  std::vector<std::string> output_names;
  int repeat = 1;
  bool json = false;
};

std::string type_of(const Value& value) {
  return value.is_tensor() ? fmt::format("tensor({})", name_of(value.dtype())) : "not a tensor";
}

void describe(const std::string& name, const Value& value, bool json) {
  const auto s = statistics_of(value);
  const auto shape = value.is_tensor() ? value.shape() : std::span<const int64_t>();
  if (json) {
    Json out{{"name", name}, {"type", type_of(value)}, {"shape", std::vector<int64_t>(shape.begin(), shape.end())}};
    if (s) out.update({{"min", s->least}, {"max", s->most}, {"mean", s->mean}, {"nan", s->nan}});
    return print_line(json_line(out));
  }
  std::string text = fmt::format("{}  {}  {}", one_line(name), type_of(value), shape_text(shape));
  if (s) text += fmt::format("  min {:.6g}  max {:.6g}  mean {:.6g}", s->least, s->most, s->mean);
  if (s && s->nan > 0) text += fmt::format("  {} NaN", s->nan);
  print_line(text);
}

bool same_bits(const Value& a, const Value& b) {
  if (!a.is_tensor() || !b.is_tensor()) return true;
  if (a.dtype() != b.dtype() || !std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end())) return false;
  if (a.dtype() == DType::kString) return std::equal(a.string_data().begin(), a.string_data().end(), b.string_data().begin());
  return a.byte_size() == 0 || std::memcmp(a.data(), b.data(), a.byte_size()) == 0;
}

Status write_json(const std::string& path, const NamedValues& values) {
  Json all = Json::object();
  for (const auto& [name, value] : values) {
    OCIOR_ASSIGN(all[name], value_to_json(value, name));
  }
  OCIOR_ASSIGN(AtomicFile file, AtomicFile::open(path));
  OCIOR_RETURN_IF_ERROR(file.write(json_line(all) + "\n"));
  return file.commit();
}

Result<std::vector<Value>> run_often(const Session& session, const NamedValues& inputs, const RunFlags& flags) {
  const auto feeds = feeds_of(inputs);
  OCIOR_ASSIGN(std::vector<Value> first, session.run(feeds, flags.output_names, &run_options()));
  for (int i = 1; i < flags.repeat; ++i) {
    OCIOR_ASSIGN(const auto again, session.run(feeds, flags.output_names, &run_options()));
    for (size_t k = 0; k < first.size(); ++k) {
      if (!same_bits(first[k], again[k]))
        return error(Code::kFail, "run {} gave other bits than the first in its output number {}", i + 1, k + 1);
    }
  }
  return first;
}

Status run_model(const RunFlags& flags) {
  OCIOR_ASSIGN(const LoadedModel loaded, load_model(flags.model, flags.session.options()));
  for (const ValueInfo& info : loaded.session.outputs())
    if (info.kind != Value::Kind::kTensor)
      return error(Code::kNotImplemented, "output '{}' is {}, which the command line cannot show; use Python or C++", info.name,
                   info.type_string());
  OCIOR_ASSIGN(const NamedValues inputs, flags.feeds.read(loaded.session));
  OCIOR_ASSIGN(const auto values, run_often(loaded.session, inputs, flags));
  NamedValues outputs;
  for (size_t i = 0; i < values.size(); ++i) {
    outputs.emplace_back(flags.output_names.empty() ? loaded.session.outputs()[i].name : flags.output_names[i], values[i]);
  }
  if (flags.output.ends_with(".json")) return write_json(flags.output, outputs);
  if (!flags.output.empty()) return write_npz(flags.output, outputs);
  for (const auto& [name, value] : outputs) describe(name, value, flags.json);
  return {};
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Run a model on files or made-up inputs");
  command->add_option("MODEL", flags->model, "ONNX file or checkpoint folder")->required();
  flags->feeds.add_files_to(*command);
  flags->feeds.add_dims_to(*command);
  command->add_option("-o,--output", flags->output, "Write the outputs to this .npz or .json file instead of describing them")
      ->check([](const std::string& path) {
        return path.ends_with(".npz") || path.ends_with(".json") ? std::string()
                                                                 : "'" + path + "' ends neither in .npz nor in .json";
      });
  add_repeated(*command, "--output-name", flags->output_names, "Compute only this output; may be repeated");
  command->add_option("--repeat", flags->repeat, "Run so often and fail if a run gives other bits")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object for each output");
  command->add_flag("--reference", flags->session.reference,
                    "Compute every node by its operator's reference implementation, without passes: slow, and obviously right");
  flags->session.add_to(*command);
  command->footer(
      "Prints name, type, shape, min, max and mean of each output. JSON files hold nested arrays; NaN is \"NaN\".\n"
      "Examples:\n"
      "  ocior run model.onnx --random --dim batch=4\n"
      "  ocior run model.onnx --input input_ids=ids.npy --input attention_mask=mask.npy --output out.npz");
  command->callback([flags, &action] { action = [flags] { return run_model(*flags); }; });
}

}  // namespace ocior::cli
