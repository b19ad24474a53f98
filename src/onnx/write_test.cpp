// Tests of the writer: round trips, external data, refusal of inconsistent models, full disks.
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "onnx/testing.h"

namespace ocior::onnx {
namespace {

using Names = std::vector<std::string>;

Tensor tensor_of(const std::string& name, size_t floats, float value) {
  std::vector<std::byte> bytes(floats * sizeof(float));
  for (size_t i = 0; i < floats; ++i) std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  Tensor t;
  t.name = name;
  t.dtype = DType::kFloat;
  t.dims = {static_cast<int64_t>(floats)};
  t.owned = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  t.raw = *t.owned;
  return t;
}

Model small_model() {
  Model m;
  m.ir_version = 10;
  m.opset_imports = {{"", 21}};
  m.graph.name = "g";
  m.graph.nodes.push_back({.op_type = "Relu", .inputs = {"x"}, .outputs = {"y"}});
  Type type{.kind = Type::Kind::kTensor, .dtype = DType::kFloat, .has_shape = true, .shape = {{}, {.value = 2}}};
  m.graph.inputs = {{.name = "x", .type = type}};
  m.graph.outputs = {{.name = "y", .type = type}};
  m.graph.initializers = {tensor_of("small", 10, 1.0f), tensor_of("big", 1000, 2.0f), tensor_of("bigger", 5000, 3.0f)};
  return m;
}

TEST(WriteBytes, RoundTripKeepsEverything) {
  for (const char* name : {"every_field.onnx", "typed_data.onnx", "control_flow.onnx", "old_ir.onnx"}) {
    const auto model = read_file(data_file(name));
    ASSERT_TRUE(model.ok()) << model.status().message();
    const auto bytes = write_bytes(*model);
    ASSERT_TRUE(bytes.ok()) << bytes.status().message();
    const auto again = read_text(*bytes);
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_TRUE(same(*model, *again)) << name;
  }
}

TEST(WriteBytes, UnknownDimensionsAndEmptyMessagesSurvive) {
  Model m = small_model();
  m.graph.value_info.resize(2);
  m.graph.inputs[0].type.shape.resize(4);
  const auto bytes = write_bytes(m);
  ASSERT_TRUE(bytes.ok()) << bytes.status().message();
  const auto again = read_text(*bytes);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_TRUE(same(m, *again));
  m.graph.name = "other";
  EXPECT_FALSE(same(m, *again));
}

TEST(WriteBytes, InconsistentModelsAreRefused) {
  const auto broken = [](auto change) {
    Model m = small_model();
    change(m);
    return write_bytes(m);
  };
  const auto attribute = [&](Attribute a) { return broken([&](Model& m) { m.graph.nodes[0].attributes = {a}; }); };
  using Kind = Attribute::Kind;
  EXPECT_ERROR(broken([](Model& m) { m.graph.initializers[1].dims = {999}; }), Code::kInvalidArgument, "tensor 1 'big'", "3996",
               "4000");
  EXPECT_ERROR(broken([](Model& m) { m.graph.initializers[1].dtype = DType::kUndefined; }), Code::kInvalidGraph, "element type");
  EXPECT_ERROR(broken([](Model& m) { m.graph.nodes[0].op_type = ""; }), Code::kInvalidArgument, "node 0", "op_type");
  EXPECT_ERROR(broken([](Model& m) { m.graph.inputs[0].type.kind = Type::Kind::kSequence; }), Code::kInvalidArgument,
               "input 0 'x'", "element type");
  EXPECT_ERROR(attribute({.kind = Kind::kInt}), Code::kInvalidArgument, "name");
  EXPECT_ERROR(attribute({.name = "a"}), Code::kInvalidArgument, "attribute 0 'a'");
  EXPECT_ERROR(attribute({.name = "a", .kind = Kind::kTensor}), Code::kInvalidArgument, "0 values");
  EXPECT_ERROR(attribute({.name = "a", .kind = Kind::kGraph, .graphs = {nullptr}}), Code::kInvalidArgument, "null");
  EXPECT_ERROR(attribute({.name = "a", .kind = static_cast<Kind>(50)}), Code::kInvalidArgument, "50");
  auto endless = std::make_shared<Graph>();
  endless->nodes.push_back({.op_type = "If", .attributes = {{.name = "a", .kind = Kind::kGraph, .graphs = {endless}}}});
  EXPECT_ERROR(attribute({.name = "a", .kind = Kind::kGraph, .graphs = {endless}}), Code::kInvalidArgument, "nested");
  endless->nodes.clear();
}

TEST(WriteBytes, FailsAboveTwoGigabytes) {
  Model m = small_model();
  const size_t size = size_t{1} << 31;
  void* zeros = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (zeros == MAP_FAILED) GTEST_SKIP() << "not enough address space";
  m.graph.initializers.push_back({.name = "huge",
                                  .dtype = DType::kInt8,
                                  .dims = {static_cast<int64_t>(size)},
                                  .raw = {static_cast<const std::byte*>(zeros), size}});
  EXPECT_ERROR(write_bytes(m), Code::kInvalidArgument, "protobuf ends at 2147483647");
  munmap(zeros, size);
}

class WriteFile : public FolderTest {};

TEST_F(WriteFile, SmallModelsAreOneFile) {
  const Model m = small_model();
  ASSERT_TRUE(write_file(m, at("m.onnx")).ok());
  EXPECT_EQ(names(), Names{"m.onnx"});
  const auto again = read_file(at("m.onnx"));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(same(m, *again));
  EXPECT_EQ(*write_bytes(m), slurp(at("m.onnx")));
}

TEST_F(WriteFile, LargeTensorsGoIntoADataFile) {
  Model m = small_model();
  auto body = std::make_shared<Graph>();
  body->initializers = {tensor_of("inner", 300, 4.0f)};
  m.graph.nodes[0].attributes = {{.name = "body", .kind = Attribute::Kind::kGraph, .graphs = {body}}};
  WriteOptions options;
  options.external_threshold = 20000;
  ASSERT_TRUE(write_file(m, at("m.onnx"), options).ok());
  EXPECT_EQ(names(), (Names{"m.onnx", "m.onnx.data"}));
  EXPECT_LT(slurp(at("m.onnx")).size(), 1000u);
  EXPECT_EQ(slurp(at("m.onnx.data")).size(), 4096u + 20480u + 1200u);
  const auto again = read_file(at("m.onnx"));
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_TRUE(same(m, *again));
  EXPECT_EQ(again->files.size(), 2u);
  // Over itself: the mapped old files stay readable until they are written anew.
  ASSERT_TRUE(write_file(*again, at("m.onnx"), options).ok());
  const auto third = read_file(at("m.onnx"));
  ASSERT_TRUE(third.ok());
  EXPECT_TRUE(same(m, *third));
}

TEST_F(WriteFile, FailureLeavesTheOldFileAndNothingElse) {
  put("m.onnx", "old");
  Model m = small_model();
  m.graph.initializers[0].dims = {11};
  EXPECT_ERROR(write_file(m, at("m.onnx")), Code::kInvalidArgument, "m.onnx: cannot write the model: tensor 0 'small'");
  EXPECT_EQ(names(), Names{"m.onnx"});
  EXPECT_EQ(slurp(at("m.onnx")), "old");
  EXPECT_ERROR(write_file(small_model(), at("none/m.onnx")), Code::kNoSuchFile, "does not exist");
  EXPECT_ERROR(write_file(small_model(), folder_), Code::kInvalidArgument, "folder");
}

// The file-size limit hits the protobuf in the first round and the data file in the second.
TEST_F(WriteFile, FileSizeLimit) {
  Model m = small_model();
  m.graph.initializers.push_back(tensor_of("w", 1 << 19, 1.0f));
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 1 << 20, before.rlim_max };
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status whole = write_file(m, at("m.onnx"));
  const Status split = write_file(m, at("m.onnx"), {.external_threshold = 1});
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_ERROR(whole, Code::kFail, "m.onnx: cannot write byte");
  EXPECT_ERROR(split, Code::kFail, "m.onnx.data: cannot write byte");
  EXPECT_EQ(names(), Names{});
}

TEST_F(WriteFile, FullDisk) {
  if (mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "mounting needs root";
  Model m = small_model();
  m.graph.initializers.push_back(tensor_of("w", 1 << 19, 1.0f));
  const Status whole = write_file(m, at("m.onnx"));
  const Status split = write_file(m, at("m.onnx"), {.external_threshold = 1});
  const Names left = names();
  umount(folder_.c_str());
  EXPECT_ERROR(whole, Code::kFail, "m.onnx: cannot write byte", "No space left", "free some disk space");
  EXPECT_ERROR(split, Code::kFail, "No space left");
  EXPECT_EQ(left, Names{});
}

}  // namespace
}  // namespace ocior::onnx
