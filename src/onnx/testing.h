// Shared by the tests of this folder: deep comparison of Models, a temporary folder, the checked-in model files.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <protozero/pbf_writer.hpp>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "onnx/model.h"

namespace ocior::onnx {

bool same(const Graph& a, const Graph& b);

template <class T, class Same>
bool same_list(const std::vector<T>& a, const std::vector<T>& b, Same same_item) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same_item);
}
inline bool same(const Tensor& a, const Tensor& b) {
  return a.name == b.name && a.doc == b.doc && a.dtype == b.dtype && a.dims == b.dims && a.strings == b.strings &&
         a.metadata == b.metadata && std::equal(a.raw.begin(), a.raw.end(), b.raw.begin(), b.raw.end());
}
inline bool same(const SparseTensor& a, const SparseTensor& b) {
  return same(a.values, b.values) && same(a.indices, b.indices) && a.dims == b.dims;
}
inline bool same(const Dimension& a, const Dimension& b) { return a.value == b.value && a.param == b.param; }
inline bool same(const Type& a, const Type& b) {
  return a.kind == b.kind && a.dtype == b.dtype && a.has_shape == b.has_shape &&
         same_list(a.shape, b.shape, [](auto& x, auto& y) { return same(x, y); }) && !a.element == !b.element &&
         (!a.element || same(*a.element, *b.element));
}
inline bool same(const ValueInfo& a, const ValueInfo& b) {
  return a.name == b.name && same(a.type, b.type) && a.doc == b.doc && a.metadata == b.metadata;
}
inline bool same(const Attribute& a, const Attribute& b) {
  const auto same_items = [](auto& x, auto& y) { return same(x, y); };
  return a.name == b.name && a.ref_attr_name == b.ref_attr_name && a.doc == b.doc && a.kind == b.kind &&
         std::memcmp(&a.f, &b.f, sizeof a.f) == 0 && a.i == b.i && a.s == b.s && a.ints == b.ints && a.strings == b.strings &&
         same_list(a.floats, b.floats, [](float x, float y) { return std::memcmp(&x, &y, sizeof x) == 0; }) &&
         same_list(a.tensors, b.tensors, same_items) && same_list(a.sparse_tensors, b.sparse_tensors, same_items) &&
         same_list(a.types, b.types, same_items) && same_list(a.graphs, b.graphs, [](auto& x, auto& y) { return same(*x, *y); });
}
inline bool same(const Node& a, const Node& b) {
  return a.name == b.name && a.op_type == b.op_type && a.domain == b.domain && a.overload == b.overload && a.doc == b.doc &&
         a.inputs == b.inputs && a.outputs == b.outputs && a.metadata == b.metadata &&
         same_list(a.attributes, b.attributes, [](auto& x, auto& y) { return same(x, y); });
}
inline bool same(const Graph& a, const Graph& b) {
  const auto same_items = [](auto& x, auto& y) { return same(x, y); };
  return a.name == b.name && a.doc == b.doc && a.metadata == b.metadata && same_list(a.nodes, b.nodes, same_items) &&
         same_list(a.initializers, b.initializers, same_items) &&
         same_list(a.sparse_initializers, b.sparse_initializers, same_items) && same_list(a.inputs, b.inputs, same_items) &&
         same_list(a.outputs, b.outputs, same_items) && same_list(a.value_info, b.value_info, same_items);
}
inline bool same(const Function& a, const Function& b) {
  const auto same_items = [](auto& x, auto& y) { return same(x, y); };
  return a.name == b.name && a.domain == b.domain && a.overload == b.overload && a.doc == b.doc && a.inputs == b.inputs &&
         a.outputs == b.outputs && a.attributes == b.attributes && a.opset_imports == b.opset_imports &&
         a.metadata == b.metadata && same_list(a.attribute_defaults, b.attribute_defaults, same_items) &&
         same_list(a.nodes, b.nodes, same_items) && same_list(a.value_info, b.value_info, same_items);
}
inline bool same(const Model& a, const Model& b) {
  return a.ir_version == b.ir_version && a.producer_name == b.producer_name && a.producer_version == b.producer_version &&
         a.domain == b.domain && a.doc == b.doc && a.model_version == b.model_version && a.opset_imports == b.opset_imports &&
         a.metadata == b.metadata && same(a.graph, b.graph) &&
         same_list(a.functions, b.functions, [](auto& x, auto& y) { return same(x, y); });
}

inline Result<Model> read_text(const std::string& bytes, const std::string& folder = "", const ReadLimits& limits = {}) {
  auto kept = std::make_shared<const std::string>(bytes);
  return read_bytes(std::as_bytes(std::span(*kept)), kept, folder, limits);
}

// The files that tests/data/onnx/make_models.py wrote.
inline std::string data_file(const std::string& name) { return std::string(OCIOR_SOURCE_DIR) + "/tests/data/onnx/" + name; }
inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A test with an empty folder of its own.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "ocior-onnx-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  void put(const std::string& name, const std::string& text) const { std::ofstream(at(name), std::ios::binary) << text; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }

  std::string folder_;
};

// EXPECTs that `result` failed with `code` and that its message holds every one of `words`.
template <class T>
void expect_error(const T& result, Code code, std::initializer_list<const char*> words, int line) {
  const Status* status;
  if constexpr (std::is_same_v<T, Status>) status = &result;
  else status = &result.status();
  EXPECT_EQ(status->code(), code) << "line " << line << ": " << status->message();
  for (const char* word : words)
    EXPECT_NE(status->message().find(word), std::string::npos)
        << "line " << line << ": '" << word << "' is not in: " << status->message();
}
#define EXPECT_ERROR(result, code, ...) expect_error(result, code, {__VA_ARGS__}, __LINE__)

}  // namespace ocior::onnx
