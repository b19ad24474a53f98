#include "ocior/ocior.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "onnx/model.h"

namespace ocior {
namespace {

// y = relu(x w + b): x [n, 3], w [3, 2].
std::string small_model() {
  onnx::Model m;
  m.ir_version = 8;
  m.opset_imports = {{"", 17}};
  m.graph.name = "g";
  auto floats = [](std::string name, std::vector<int64_t> dims, std::vector<float> v) {
    onnx::Tensor t;
    t.name = std::move(name);
    t.dtype = DType::kFloat;
    t.dims = std::move(dims);
    auto bytes = std::make_shared<std::vector<std::byte>>(v.size() * 4);
    std::memcpy(bytes->data(), v.data(), bytes->size());
    t.raw = *bytes;
    t.owned = bytes;
    return t;
  };
  auto info = [](std::string name, std::vector<onnx::Dimension> dims) {
    onnx::ValueInfo v;
    v.name = std::move(name);
    v.type.kind = onnx::Type::Kind::kTensor;
    v.type.dtype = DType::kFloat;
    v.type.has_shape = true;
    v.type.shape = std::move(dims);
    return v;
  };
  m.graph.initializers = {floats("w", {3, 2}, {1, 2, 3, 4, 5, 6}), floats("b", {2}, {-10, 1})};
  m.graph.inputs = {info("x", {{-1, "n"}, {3, ""}})};
  m.graph.outputs = {info("y", {{-1, "n"}, {2, ""}})};
  auto node = [](std::string name, std::string op, std::vector<std::string> in, std::string out) {
    onnx::Node n;
    n.name = std::move(name);
    n.op_type = std::move(op);
    n.inputs = std::move(in);
    n.outputs = {std::move(out)};
    return n;
  };
  m.graph.nodes = {node("mm", "MatMul", {"x", "w"}, "t"), node("add", "Add", {"t", "b"}, "u"), node("relu", "Relu", {"u"}, "y")};
  return onnx::write_bytes(m).value();
}

Session load(const std::string& bytes, SessionOptions options = {}) {
  options.config["ocior.cache"] = "0";
  auto s = Session::load(std::as_bytes(std::span(bytes)), options);
  EXPECT_TRUE(s.ok()) << s.status().message();
  return std::move(s).value();
}

Value input(int64_t rows) {
  std::vector<float> v(static_cast<size_t>(rows) * 3);
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 5) - 1;
  return Value::of<float>(std::vector<int64_t>{rows, 3}, v).value();
}

std::vector<float> expected(int64_t rows) {
  const Value x = input(rows);
  const float w[] = {1, 2, 3, 4, 5, 6}, b[] = {-10, 1};
  std::vector<float> y;
  for (int64_t r = 0; r < rows; ++r)
    for (int c = 0; c < 2; ++c) {
      float sum = b[c];
      for (int k = 0; k < 3; ++k) sum += x.as<float>()[static_cast<size_t>(r * 3 + k)] * w[k * 2 + c];
      y.push_back(std::max(0.0f, sum));
    }
  return y;
}

TEST(Session, RunsAndDescribesItself) {
  const Session s = load(small_model());
  ASSERT_EQ(s.inputs().size(), 1u);
  EXPECT_EQ(s.inputs()[0].name, "x");
  EXPECT_EQ(s.inputs()[0].shape[0].symbol, "n");
  EXPECT_EQ(s.inputs()[0].type_string(), "tensor(float)");
  for (const int64_t rows : {1, 2, 7, 0, 2, 1}) {
    auto y = s.run({{Feed{"x", input(rows)}}});
    ASSERT_TRUE(y.ok()) << y.status().message();
    ASSERT_EQ(y->size(), 1u);
    const auto got = (*y)[0].as<float>();
    EXPECT_EQ(std::vector<float>(got.begin(), got.end()), expected(rows));
  }
  EXPECT_EQ(s.memory_stats().shape_plans, 4);
}

TEST(Session, OneSessionManyThreads) {
  const Session s = load(small_model());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&s, t] {
      for (int i = 0; i < 50; ++i) {
        const int64_t rows = 1 + (i + t) % 5;
        auto y = s.run({{Feed{"x", input(rows)}}});
        ASSERT_TRUE(y.ok());
        const auto got = (*y)[0].as<float>();
        ASSERT_EQ(std::vector<float>(got.begin(), got.end()), expected(rows));
      }
    });
  for (auto& t : threads) t.join();
}

TEST(Session, WrongFeedsAreNamed) {
  const Session s = load(small_model());
  const auto message = [&](std::vector<Feed> feeds) { return s.run(feeds).status().message(); };
  EXPECT_TRUE(message({}).starts_with("Missing Input: x"));
  EXPECT_TRUE(message({Feed{"q", input(1)}}).starts_with("Invalid input name: q"));
  EXPECT_TRUE(message({Feed{"x", Value::of<int64_t>(std::vector<int64_t>{1, 3}, std::vector<int64_t>{1, 2, 3}).value()}})
                  .starts_with("Unexpected input data type. Actual: (tensor(int64)) , expected: (tensor(float))"));
  EXPECT_TRUE(message({Feed{"x", Value::of<float>(std::vector<int64_t>{3}, std::vector<float>{1, 2, 3}).value()}})
                  .starts_with("Invalid rank for input: x Got: 1 Expected: 2"));
  EXPECT_TRUE(message({Feed{"x", Value::of<float>(std::vector<int64_t>{1, 4}, std::vector<float>{1, 2, 3, 4}).value()}})
                  .starts_with("Got invalid dimensions for input: x for the following indices\n index: 1 Got: 4 Expected: 3"));
  const std::vector<std::string> wrong = {"z"};
  EXPECT_TRUE(s.run(std::vector<Feed>{Feed{"x", input(1)}}, wrong).status().message().starts_with("Invalid output name: z"));
}

TEST(Session, BindingsWriteIntoTheCallersMemory) {
  const Session s = load(small_model());
  IoBinding binding(s);
  std::vector<float> memory(4, -1);
  ASSERT_TRUE(binding.bind_input("x", input(2)).ok());
  ASSERT_TRUE(binding.bind_output("y", Value::view(DType::kFloat, std::vector<int64_t>{2, 2}, memory.data(), 16).value()).ok());
  const Status ran = s.run(binding);
  ASSERT_TRUE(ran.ok()) << ran.message();
  EXPECT_EQ(memory, expected(2));
  EXPECT_EQ(binding.outputs()[0].data(), memory.data());
  ASSERT_TRUE(binding.bind_input("x", input(3)).ok());
  EXPECT_EQ(s.run(binding).code(), Code::kInvalidArgument);  // the bound output has two rows
}

TEST(Session, TerminatedRunsStop) {
  const Session s = load(small_model());
  RunOptions options;
  options.terminate();
  EXPECT_EQ(s.run(std::vector<Feed>{Feed{"x", input(1)}}, {}, &options).status().message(),
            "Exiting due to terminate flag being set to true.");
  options.clear();
  EXPECT_TRUE(s.run(std::vector<Feed>{Feed{"x", input(1)}}, {}, &options).ok());
}

TEST(Session, OptionsAreChecked) {
  const std::string bytes = small_model();
  SessionOptions options;
  options.config["ocior.precision"] = "double";
  EXPECT_EQ(Session::load(std::as_bytes(std::span(bytes)), options).status().message(),
            "session option ocior.precision is 'double'; expected one of highest, high, medium");
  options.config = {{"ocior.fast", "1"}};
  EXPECT_EQ(Session::load(std::as_bytes(std::span(bytes)), options).status().code(), Code::kInvalidArgument);
  options.config.clear();
  options.providers = {{"CUDAExecutionProvider", {}}};
  EXPECT_EQ(Session::load(std::as_bytes(std::span(bytes)), options).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace ocior
