// Tests of external data: what is found, what is refused, links of model stores.
#include <sys/stat.h>
#include <unistd.h>

#include "onnx/external_data.h"
#include "onnx/proto_fields.h"
#include "onnx/testing.h"

namespace ocior::onnx {
namespace {

namespace fs = std::filesystem;
using protozero::pbf_writer;

using Entries = std::vector<std::pair<std::string, std::string>>;

// A model with one float tensor of shape [2] whose payload lies where `entries` say.
std::string model_with_external(const Entries& entries, const std::string& raw = "", int64_t size = 2, int32_t dtype = 1) {
  std::string model;
  pbf_writer m(model);
  m.add_int64(field::Model::kIrVersion, 10);
  pbf_writer graph(m, field::Model::kGraph);
  pbf_writer t(graph, field::Graph::kInitializer);
  t.add_int64(field::Tensor::kDims, size);
  t.add_int32(field::Tensor::kDataType, dtype);
  t.add_string(field::Tensor::kName, "w");
  if (!raw.empty()) t.add_bytes(field::Tensor::kRawData, raw);
  for (const auto& [key, value] : entries) {
    pbf_writer entry(t, field::Tensor::kExternalData);
    entry.add_string(field::StringStringEntry::kKey, key);
    entry.add_string(field::StringStringEntry::kValue, value);
  }
  t.add_int32(field::Tensor::kDataLocation, 1);
  return model;
}

class External : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    fs::create_directory(at("m"));
    fs::create_directory(at("m/sub"));
    put("outside.bin", "01234567");
    put("m/w.bin", "abcdefghijkl");
    put("m/sub/w.bin", "ABCDEFGH");
  }
  Result<Model> read(const Entries& entries) {
    put("m/model.onnx", model_with_external(entries));
    return read_file(at("m/model.onnx"));
  }
  static std::string text_of(const Result<Model>& model) {
    if (!model.ok()) return model.status().message();
    const auto raw = model->graph.initializers.at(0).raw;
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
};

TEST_F(External, OffsetAndLength) {
  EXPECT_EQ(text_of(read({{"location", "w.bin"}})), "abcdefgh");
  EXPECT_EQ(text_of(read({{"location", "w.bin"}, {"offset", "3"}, {"length", "8"}, {"checksum", "x"}})), "defghijk");
  EXPECT_EQ(text_of(read({{"location", "./sub/w.bin"}})), "ABCDEFGH");
  const auto official = read_file(data_file("external.onnx"));
  ASSERT_TRUE(official.ok()) << official.status().message();
  EXPECT_EQ(official->files.size(), 2u);  // two tensors, one mapping
  EXPECT_EQ(official->graph.initializers.at(1).raw.size(), 12u);
}

TEST_F(External, SizesAreChecked) {
  EXPECT_ERROR(read({{"location", "w.bin"}, {"offset", "5"}}), Code::kInvalidGraph, "tensor 0 'w'", "offset 5", "has 12 bytes");
  EXPECT_ERROR(read({{"location", "w.bin"}, {"length", "4"}}), Code::kInvalidGraph, "need 8 bytes", "holds 4");
  for (const char* offset : {"9223372036854775807", "13"})
    EXPECT_ERROR(read({{"location", "w.bin"}, {"offset", offset}}), Code::kInvalidGraph, "has 12 bytes");
  for (const char* offset : {"-1", "x", "", "0x10", "1 ", "99999999999999999999"})
    EXPECT_ERROR(read({{"location", "w.bin"}, {"offset", offset}}), Code::kInvalidGraph, "external data offset is");
  EXPECT_ERROR(read_text(model_with_external({{"location", "w.bin"}}, "abcdefgh"), at("m")), Code::kInvalidGraph,
               "also raw_data");
  EXPECT_ERROR(read_text(model_with_external({{"location", "w.bin"}}, "", 2, 8), at("m")), Code::kInvalidGraph, "strings cannot");
  EXPECT_TRUE(read_text(model_with_external({{"location", "none"}}, "", 0), at("m")).ok());  // nothing is needed of it
}

TEST_F(External, NamesThatLeaveTheFolderAreRefused) {
  const std::string inside = at("m/w.bin");
  for (const std::string& name :
       {std::string("../outside.bin"), std::string("sub/../../outside.bin"), std::string("sub/../w.bin"), inside,
        std::string(".."), std::string(""), std::string("sub\\w.bin"), std::string("w.bin\0x", 7), std::string("/")})
    EXPECT_ERROR(read({{"location", name}}), Code::kInvalidGraph, "relative to the model's folder");
  EXPECT_ERROR(read({}), Code::kInvalidGraph, "is empty");
  EXPECT_ERROR(read({{"location", "none.bin"}}), Code::kNoSuchFile, "'none.bin' does not exist");
  EXPECT_ERROR(read({{"location", "*/_ORT_MEM_ADDR_/*"}}), Code::kNoSuchFile, "does not exist");
  EXPECT_ERROR(read({{"location", std::string(5000, 'x')}}), Code::kFail, "cannot be opened");
}

TEST_F(External, OnlyRegularFiles) {
  EXPECT_ERROR(read({{"location", "sub"}}), Code::kInvalidGraph, "regular file");
  EXPECT_ERROR(read({{"location", "."}}), Code::kInvalidGraph, "regular file");
  ASSERT_EQ(mkfifo(at("m/pipe").c_str(), 0600), 0);
  EXPECT_ERROR(read({{"location", "pipe"}}), Code::kInvalidGraph, "regular file");
  fs::create_symlink("/dev/zero", at("m/zero"));
  EXPECT_ERROR(read({{"location", "zero"}}), Code::kInvalidGraph, "regular file");
  fs::create_symlink("loop", at("m/loop"));
  EXPECT_ERROR(read({{"location", "loop"}}), Code::kFail, "cannot be opened");
}

TEST_F(External, LinksMustStayInside) {
  fs::create_symlink(at("outside.bin"), at("m/link"));
  fs::create_symlink("..", at("m/up"));
  EXPECT_ERROR(read({{"location", "link"}}), Code::kInvalidGraph, "leads out of the model's folder");
  EXPECT_ERROR(read({{"location", "up/outside.bin"}}), Code::kInvalidGraph, "leads out of the model's folder");
  fs::create_symlink("sub/w.bin", at("m/inner"));
  EXPECT_EQ(text_of(read({{"location", "inner"}})), "ABCDEFGH");
  // A sibling folder whose name begins alike is not inside.
  fs::create_directory(at("m2"));
  put("m2/w.bin", "01234567");
  fs::create_symlink(at("m2/w.bin"), at("m/alike"));
  EXPECT_ERROR(read({{"location", "alike"}}), Code::kInvalidGraph, "leads out of the model's folder");
}

// Hugging Face's cache: snapshots/<commit>/model.onnx and its data are links into blobs/.
TEST_F(External, SnapshotsOfLinksIntoAStore) {
  fs::create_directories(at("snapshots/1"));
  fs::create_directory(at("blobs"));
  put("blobs/aa", model_with_external({{"location", "model.onnx_data"}}));
  put("blobs/bb", "weights!");
  fs::create_symlink("../../blobs/aa", at("snapshots/1/model.onnx"));
  fs::create_symlink("../../blobs/bb", at("snapshots/1/model.onnx_data"));
  EXPECT_EQ(text_of(read_file(at("snapshots/1/model.onnx"))), "weights!");
  // The blob's own folder has no file of that name.
  EXPECT_ERROR(read_file(at("blobs/aa")), Code::kNoSuchFile, "model.onnx_data");
  fs::remove(at("snapshots/1/model.onnx_data"));
  fs::create_symlink(at("outside.bin"), at("snapshots/1/model.onnx_data"));
  EXPECT_ERROR(read_file(at("snapshots/1/model.onnx")), Code::kInvalidGraph, "leads out");
}

TEST_F(External, ModelsFromMemoryNeedAFolder) {
  const std::string bytes = model_with_external({{"location", "w.bin"}});
  EXPECT_ERROR(read_text(bytes), Code::kInvalidGraph, "read from memory");
  EXPECT_EQ(text_of(read_text(bytes, at("m"))), "abcdefgh");
  EXPECT_EQ(text_of(read_text(bytes, at("m/"))), "abcdefgh");
  EXPECT_ERROR(read_text(bytes, at("none")), Code::kNoSuchFile, "w.bin");
}

TEST_F(External, RelativeModelPathsWork) {
  put("m/model.onnx", model_with_external({{"location", "w.bin"}}));
  const fs::path before = fs::current_path();
  fs::current_path(at("m"));
  EXPECT_EQ(text_of(read_file("model.onnx")), "abcdefgh");
  fs::current_path(before);
}

TEST_F(External, EachFileIsMappedOnce) {
  fs::create_symlink("w.bin", at("m/same"));
  ExternalData data(at("m"), "");
  const auto first = data.open("w.bin"), second = data.open("w.bin"), third = data.open("./w.bin"), fourth = data.open("same");
  ASSERT_TRUE(first.ok() && second.ok() && third.ok() && fourth.ok());
  EXPECT_EQ(first->get(), second->get());
  EXPECT_EQ(first->get(), third->get());
  EXPECT_EQ(first->get(), fourth->get());
  EXPECT_EQ(data.files().size(), 1u);
}

}  // namespace
}  // namespace ocior::onnx
