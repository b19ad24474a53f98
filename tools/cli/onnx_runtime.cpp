// See onnx_runtime.h.
#include "onnx_runtime.h"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "interrupt.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kNoPackage = 3;

// Arguments: model, inputs, outputs, error text. Arrays are numbered in the model's order.
constexpr const char* kScript = R"py(
import sys
try:
    import numpy, onnxruntime
except ImportError as e:
    open(sys.argv[4], "w").write(str(e))
    sys.exit(3)
try:
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    given = numpy.load(sys.argv[2])
    names = given["names"].tolist()
    feeds = {name: given[str(i)] for i, name in enumerate(names)}
    for i in session.get_inputs():
        if i.type == "tensor(string)" and i.name in feeds:
            feeds[i.name] = feeds[i.name].astype(object)
    outputs = session.run(None, feeds)
    for info, value in zip(session.get_outputs(), outputs):
        if not isinstance(value, numpy.ndarray):
            raise TypeError(f"output '{info.name}' is {info.type}; only tensors are compared")
    numpy.savez(sys.argv[3], **{str(i): v.astype(str) if v.dtype == object else v for i, v in enumerate(outputs)})
except Exception as e:
    open(sys.argv[4], "w").write(f"{type(e).__name__}: {e}")
    sys.exit(1)
)py";

// A folder that is gone when this is.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make() {
    std::error_code wrong;
    std::string name = (fs::temp_directory_path(wrong) / "ocior-verify-XXXXXX").string();
    if (wrong || !mkdtemp(name.data()))
      return error(Code::kFail, "no temporary folder can be made; set TMPDIR to a folder that can be written");
    return TemporaryFolder(name);
  }
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream out;
  out << file.rdbuf();
  return out.str();
}

// The exit status; 127: there is no python3.
Result<int> run_python(std::vector<std::string> arguments) {
  std::vector<char*> pointers;
  for (std::string& a : arguments) pointers.push_back(a.data());
  pointers.push_back(nullptr);
  pid_t child = 0;
  if (posix_spawnp(&child, "python3", nullptr, nullptr, pointers.data(), environ) != 0) return 127;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return error(Code::kFail, "python3 cannot be waited for");
    if (caught_signal() != 0) kill(child, SIGTERM);
  }
  OCIOR_RETURN_IF_ERROR(interrupted());
  if (!WIFEXITED(status)) return error(Code::kFail, "python3 with onnxruntime was killed by signal {}", WTERMSIG(status));
  return WEXITSTATUS(status);
}

}  // namespace

Result<std::vector<Value>> run_onnx_runtime(const std::string& model, const NamedValues& inputs) {
  OCIOR_ASSIGN(const TemporaryFolder folder, TemporaryFolder::make());
  NamedValues numbered;
  std::vector<std::string> names;
  for (const auto& [name, value] : inputs) {
    if (value.is_tensor() && value.dtype() == DType::kBFloat16)
      return error(Code::kNotImplemented, "input '{}' is bfloat16, which onnxruntime's Python module cannot be given", name);
    numbered.emplace_back(std::to_string(names.size()), value);
    names.push_back(name);
  }
  const int64_t count = std::ssize(names);
  OCIOR_ASSIGN(Value list, Value::strings({&count, 1}, names));
  numbered.emplace_back("names", std::move(list));
  const std::string in = folder.file("in.npz"), out = folder.file("out.npz"), words = folder.file("error.txt");
  OCIOR_RETURN_IF_ERROR(write_npz(in, numbered));
  OCIOR_ASSIGN(const int code, run_python({"python3", "-c", kScript, model, in, out, words}));
  if (code == kNoPackage || code == 127)
    return error(Code::kNotImplemented,
                 "--against ort needs python3 with onnxruntime; install it with 'pip install onnxruntime'");
  if (code != 0) return error(Code::kFail, "onnxruntime does not run the model: {}", one_line(text_of(words)));
  OCIOR_ASSIGN(NamedValues got, read_npz(out));
  std::vector<Value> outputs(got.size());
  for (auto& [name, value] : got) {
    const auto i = static_cast<size_t>(std::strtoul(name.c_str(), nullptr, 10));
    if (i >= outputs.size()) return error(Code::kFail, "onnxruntime's outputs are not numbered as expected: '{}'", name);
    outputs[i] = std::move(value);
  }
  return outputs;
}

}  // namespace ocior::cli
