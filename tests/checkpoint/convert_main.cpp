// convert_main FOLDER OUT [--opset N] [--task T] [--dtype fp16] [--copy-tokenizer]: the converter as a program, for
// convert_check.py. Prints the summary; exits with 1 and the error's sentence on failure.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "checkpoint/convert.h"

int main(int argc, char** argv) {
  ocior::checkpoint::ConvertOptions options;
  std::string folder, out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--opset" && i + 1 < argc) {
      options.opset = std::atoi(argv[++i]);
    } else if (arg == "--task" && i + 1 < argc) {
      options.task = argv[++i];
    } else if (arg == "--dtype" && i + 1 < argc) {
      options.dtype = std::string_view(argv[++i]) == "fp16" ? ocior::DType::kFloat16 : ocior::DType::kFloat;
    } else if (arg == "--copy-tokenizer") {
      options.copy_tokenizer = true;
    } else {
      (folder.empty() ? folder : out) = arg;
    }
  }
  const auto summary = ocior::checkpoint::convert(folder, out, options);
  if (!summary.ok()) {
    std::fprintf(stderr, "%s\n", summary.status().message().c_str());
    return 1;
  }
  std::printf("%s %s opset %d, %lld parameters, %lld bytes\n", summary->model_type.c_str(), summary->task.c_str(), summary->opset,
              static_cast<long long>(summary->parameters), static_cast<long long>(summary->bytes));
  for (const std::string& name : summary->unused) std::printf("unused %s\n", name.c_str());
  return 0;
}
