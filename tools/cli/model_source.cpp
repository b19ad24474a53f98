// See model_source.h.
#include "model_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "checkpoint/convert.h"
#include "interrupt.h"
#include "terminal.h"

namespace ocior::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kConverterRevision = 1;                      // raise when converted models change
constexpr uintmax_t kConvertedLimit = uintmax_t{4} << 30;  // bytes of converted models kept

std::string hex(XXH128_hash_t h) { return fmt::format("{:016x}{:016x}", h.high64, h.low64); }

// The folder for converted models, made when missing; why it cannot be used otherwise. It must be the user's alone, since its
// models are trusted to be what they were when they were written.
Result<std::string> cache_folder() {
  std::string folder;
  if (const char* dir = std::getenv("OCIOR_CACHE_DIR")) folder = dir;
  else if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) folder = std::string(xdg) + "/ocior";
  else if (const char* home = std::getenv("HOME"); home && *home) folder = std::string(home) + "/.cache/ocior";
  if (folder.empty()) return Status(Code::kFail, "there is no cache folder; set OCIOR_CACHE_DIR");
  std::error_code failed;
  const fs::path parent = fs::path(folder).parent_path();
  if (!parent.empty()) fs::create_directories(parent, failed);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return error(Code::kFail, "{}: {}", folder, std::strerror(errno));
  struct stat st;
  if (stat(folder.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return error(Code::kFail, "{}: is not a folder", folder);
  if (st.st_uid != geteuid() || (st.st_mode & 022) != 0) return error(Code::kFail, "{}: others may write to it", folder);
  if (access(folder.c_str(), W_OK | X_OK) != 0) return error(Code::kFail, "{}: {}", folder, std::strerror(errno));
  return folder;
}

// The files of a checkpoint that decide what its model is, in order.
std::vector<fs::path> checkpoint_files(const std::string& folder) {
  std::vector<fs::path> out;
  std::error_code failed, bad;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    const fs::path& file = it->path();
    const bool weights =
        file.extension() == ".safetensors" || file.extension() == ".bin" || file.filename().string().ends_with(".index.json");
    if ((weights || file.filename() == "config.json") && it->is_regular_file(bad)) out.push_back(file);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Which files these are and when they changed last, and whether that is long enough ago to see the next change.
Result<std::string> identity_of(const std::vector<fs::path>& files, bool& settled) {
  std::string out;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  settled = true;
  for (const fs::path& file : files) {
    struct stat st;
    if (stat(file.c_str(), &st) != 0) return error(Code::kNoSuchFile, "{}: {}", file.string(), std::strerror(errno));
    out += fmt::format("{}:{}:{}:{}:{}.{}:{}.{};", file.filename().string(), st.st_dev, st.st_ino, st.st_size, st.st_mtim.tv_sec,
                       st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    settled = settled && now.tv_sec - st.st_ctim.tv_sec >= 1;
  }
  return out;
}

Result<std::string> hash_of(const std::vector<fs::path>& files) {
  std::string parts;
  for (const fs::path& file : files) {
    OCIOR_ASSIGN(const auto mapped, MappedFile::open(file.string()));
    parts += file.filename().string() + ":" + hex(XXH3_128bits(mapped->bytes().data(), mapped->bytes().size())) + ";";
  }
  return hex(XXH3_128bits(parts.data(), parts.size()));
}

// The content hash of a checkpoint, remembered in `cache` as long as its files are the same, so that they need not be read.
Result<std::string> checkpoint_hash(const std::string& folder, const std::string& cache) {
  const auto files = checkpoint_files(folder);
  bool settled = false;
  OCIOR_ASSIGN(const std::string identity, identity_of(files, settled));
  const std::string note = fmt::format("{}/{}.id", cache, hex(XXH3_128bits(identity.data(), identity.size())));
  std::ifstream in(note);
  std::string known, hash;
  if (std::getline(in, known) && std::getline(in, hash) && known == identity && hash.size() == 32) return hash;
  OCIOR_ASSIGN(hash, hash_of(files));
  if (settled) {
    auto out = AtomicFile::open(note, 0600);
    if (out.ok() && out->write(identity + "\n" + hash + "\n").ok()) (void)out->commit();
  }
  return hash;
}

// Removes the converted models that were not used for longest, until the rest fits.
void trim(const std::string& cache) {
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    uintmax_t bytes;
  };
  std::vector<Entry> entries;
  uintmax_t total = 0;
  std::error_code failed, bad;
  for (fs::directory_iterator it(cache, failed), end; !failed && it != end; it.increment(failed)) {
    if (it->path().extension() != ".onnx") continue;
    const auto used = it->last_write_time(bad);
    const uintmax_t bytes = bad ? 0 : it->file_size(bad);
    if (!bad) entries.push_back({it->path(), used, bytes}), total += bytes;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (size_t i = 0; i + 1 < entries.size() && total > kConvertedLimit; ++i) {
    if (!fs::remove(entries[i].path, bad)) continue;
    total -= entries[i].bytes;
    fs::remove(entries[i].path.string() + ".data", bad);
  }
}

checkpoint::ConvertOptions conversion(Progress& progress) {
  checkpoint::ConvertOptions options;
  options.progress = [&progress](const checkpoint::ConvertProgress& p) {
    progress.show(p.stage == "write" ? std::string("preparing the model: writing it")
                                     : fmt::format("preparing the model: tensor {} of {}", p.done, p.total));
    return caught_signal() == 0;
  };
  return options;
}

// Where the cache holds, or would hold, the model of a checkpoint.
Result<std::string> place_in_cache(const std::string& folder) {
  OCIOR_ASSIGN(const std::string cache, cache_folder());
  OCIOR_ASSIGN(const std::string hash, checkpoint_hash(folder, cache));
  return fmt::format("{}/{}-{}.onnx", cache, hash, kConverterRevision);
}

Status write_to_cache(const onnx::Model& model, const Result<std::string>& place) {
  if (!place.ok()) return place.status();
  OCIOR_RETURN_IF_ERROR(onnx::write_file(model, *place));
  trim(fs::path(*place).parent_path().string());
  return {};
}

Result<Session> load_checkpoint(const std::string& folder, const SessionOptions& options) {
  const auto place = place_in_cache(folder);
  if (place.ok() && access(place->c_str(), R_OK) == 0) {
    utimensat(AT_FDCWD, place->c_str(), nullptr, 0);  // recently used
    auto session = Session::load(*place, options);
    if (session.ok() || session.status().code() == Code::kInvalidArgument) return session;
    unlink(place->c_str());  // damaged; it is made again
  }
  Progress progress;
  OCIOR_ASSIGN(const auto model, checkpoint::convert_to_model(folder, conversion(progress)));
  const Status written = write_to_cache(model, place);
  if (written.ok()) return Session::load(*place, options);
  warn(fmt::format("the model is prepared anew each time: {}", written.message()));
  OCIOR_ASSIGN(const std::string bytes, onnx::write_bytes(model));
  return Session::load(std::as_bytes(std::span(bytes)), options);
}

bool present(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

}  // namespace

Result<std::string> default_model() {
  if (const char* folder = std::getenv("OCIOR_MODEL_DIR"); folder && *folder) return std::string(folder);
  std::error_code failed;
  const fs::path bin = fs::read_symlink("/proc/self/exe", failed).parent_path();
  const fs::path places[] = {(bin / "../../models/qa").lexically_normal(),
                             (bin / OCIOR_SHARE_FROM_BIN / "models/qa").lexically_normal()};
  for (const fs::path& place : places) {
    if (present(place / "config.json")) return place.string();
  }
  return error(Code::kNoSuchFile, "the model for questions is neither in {} nor in {}; name one with --model or OCIOR_MODEL_DIR",
               places[0].string(), places[1].string());
}

Result<LoadedModel> load_model(const std::string& path, const SessionOptions& options) {
  OCIOR_RETURN_IF_ERROR(interrupted());
  std::error_code failed;
  const bool folder = fs::is_directory(path, failed);
  if (!folder && !present(path)) {
    return error(Code::kNoSuchFile, "{}: {}; name an ONNX file or a checkpoint folder", path,
                 std::strerror(failed ? failed.value() : ENOENT));
  }
  if (folder && !present(fs::path(path) / "model.onnx")) {
    OCIOR_ASSIGN(Session session, load_checkpoint(path, options));
    return LoadedModel{std::move(session), path};
  }
  const fs::path file = folder ? fs::path(path) / "model.onnx" : fs::path(path);
  OCIOR_ASSIGN(Session session, Session::load(file.string(), options));
  const fs::path beside = file.parent_path();
  return LoadedModel{std::move(session), beside.empty() ? "." : beside.string()};
}

}  // namespace ocior::cli
