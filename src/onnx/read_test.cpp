// Tests of the reader: what official files hold, hand-made encodings, and refusals.
#include <chrono>

#include "onnx/proto_fields.h"
#include "onnx/testing.h"

namespace ocior::onnx {
namespace {

using protozero::pbf_writer;
using Names = std::vector<std::string>;
using Entries = std::vector<std::pair<std::string, std::string>>;

// A model whose graph is what `fill` writes.
template <class Fill>
std::string model_with_graph(Fill fill) {
  std::string graph, out;
  pbf_writer graph_writer(graph);
  fill(graph_writer);
  pbf_writer writer(out);
  writer.add_int64(field::Model::kIrVersion, 10);
  writer.add_message(field::Model::kGraph, graph);
  return out;
}
// A model with one initializer that `fill` writes.
template <class Fill>
std::string model_with_tensor(Fill fill) {
  return model_with_graph([&](pbf_writer& graph) {
    pbf_writer tensor(graph, field::Graph::kInitializer);
    tensor.add_string(field::Tensor::kName, "w");
    fill(tensor);
  });
}
// A model with one node with one attribute that `fill` writes.
template <class Fill>
std::string model_with_attribute(Fill fill) {
  return model_with_graph([&](pbf_writer& graph) {
    pbf_writer node(graph, field::Graph::kNode);
    node.add_string(field::Node::kOpType, "Op");
    pbf_writer attribute(node, field::Node::kAttribute);
    attribute.add_string(field::Attribute::kName, "a");
    fill(attribute);
  });
}

std::vector<float> floats_of(const Tensor& tensor) {
  std::vector<float> out(tensor.raw.size() / sizeof(float));
  std::memcpy(out.data(), tensor.raw.data(), tensor.raw.size());
  return out;
}
std::vector<int> bytes_of(const Tensor& tensor) {
  std::vector<int> out;
  for (const std::byte b : tensor.raw) out.push_back(static_cast<int>(b));
  return out;
}

TEST(Read, EveryFieldOfAnOfficialFile) {
  const auto read = read_file(data_file("every_field.onnx"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  const Model& m = *read;
  EXPECT_EQ(m.ir_version, 10);
  EXPECT_EQ(m.producer_name + "|" + m.producer_version + "|" + m.domain + "|" + m.doc, "make_models.py|1|org.example|model doc");
  EXPECT_EQ(m.model_version, 3);
  EXPECT_EQ(m.opset_imports, (std::vector<std::pair<std::string, int64_t>>{{"", 21}, {"test.ops", 1}}));
  EXPECT_EQ(m.metadata, (Entries{{"mk", "mv"}}));
  EXPECT_EQ(m.path, data_file("every_field.onnx"));
  EXPECT_EQ(m.files.size(), 1u);
  const Graph& g = m.graph;
  EXPECT_EQ(g.name + "|" + g.doc, "main|graph doc");
  EXPECT_EQ(g.metadata, (Entries{{"gk", "gv"}}));
  ASSERT_EQ(g.nodes.size(), 2u);
  const Node& n = g.nodes[0];
  EXPECT_EQ(n.name + "|" + n.op_type + "|" + n.domain + "|" + n.overload + "|" + n.doc, "all|Everything|test.ops|v2|node doc");
  EXPECT_EQ(n.inputs, (Names{"x", "", "w"}));
  EXPECT_EQ(n.outputs, Names{"y"});
  EXPECT_EQ(n.metadata, (Entries{{"k", "v"}}));
  EXPECT_EQ(g.nodes[1].overload, "o");
  ASSERT_EQ(g.initializers.size(), 1u);
  EXPECT_EQ(floats_of(g.initializers[0]), std::vector<float>{9.0f});
  ASSERT_EQ(g.sparse_initializers.size(), 1u);
  EXPECT_EQ(g.sparse_initializers[0].values.name, "sparse");
  EXPECT_EQ(g.sparse_initializers[0].dims, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(g.sparse_initializers[0].indices.raw.size(), 16u);
  ASSERT_EQ(g.value_info.size(), 1u);
  EXPECT_EQ(g.value_info[0].name, "z");
}

TEST(Read, EveryAttributeKind) {
  const auto read = read_file(data_file("every_field.onnx"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  std::map<std::string, Attribute> a;
  for (const Attribute& attribute : read->graph.nodes.at(0).attributes) a[attribute.name] = attribute;
  using Kind = Attribute::Kind;
  const std::map<std::string, Kind> kinds = {{"f", Kind::kFloat},
                                             {"i", Kind::kInt},
                                             {"s", Kind::kString},
                                             {"t", Kind::kTensor},
                                             {"g", Kind::kGraph},
                                             {"floats", Kind::kFloats},
                                             {"ints", Kind::kInts},
                                             {"strings", Kind::kStrings},
                                             {"tensors", Kind::kTensors},
                                             {"graphs", Kind::kGraphs},
                                             {"sparse_tensor", Kind::kSparseTensor},
                                             {"sparse_tensors", Kind::kSparseTensors},
                                             {"tp", Kind::kTypeProto},
                                             {"tps", Kind::kTypeProtos},
                                             {"empty_ints", Kind::kInts}};
  ASSERT_EQ(a.size(), kinds.size());
  for (const auto& [name, kind] : kinds) EXPECT_EQ(a[name].kind, kind) << name;
  EXPECT_EQ(a["f"].f, 0.5f);
  EXPECT_EQ(a["i"].i, -7);
  EXPECT_EQ(a["s"].s, "text\xff");
  EXPECT_EQ(floats_of(a["t"].tensors.at(0)), (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(a["g"].graphs.at(0)->nodes.at(0).op_type, "Identity");
  EXPECT_EQ(a["floats"].floats, (std::vector<float>{0.0f, 1.0f}));
  EXPECT_EQ(a["ints"].ints, (std::vector<int64_t>{-1, 0, int64_t{1} << 40}));
  EXPECT_EQ(a["strings"].strings, (Names{"a", ""}));
  EXPECT_EQ(a["tensors"].tensors.size(), 2u);
  EXPECT_EQ(a["graphs"].graphs.size(), 2u);
  EXPECT_EQ(a["sparse_tensors"].sparse_tensors.at(0).values.dtype, DType::kFloat);
  EXPECT_EQ(a["tp"].types.at(0).kind, Type::Kind::kTensor);
  EXPECT_EQ(a["tps"].types.at(1).kind, Type::Kind::kMap);
  EXPECT_EQ(a["tps"].types.at(1).dtype, DType::kInt64);
  EXPECT_EQ(a["empty_ints"].doc, "attribute doc");
}

TEST(Read, TypesAndFunctions) {
  const auto read = read_file(data_file("every_field.onnx"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  std::map<std::string, ValueInfo> v;
  for (const ValueInfo& value : read->graph.inputs) v[value.name] = value;
  const Type& x = v["x"].type;
  EXPECT_EQ(x.kind, Type::Kind::kTensor);
  ASSERT_EQ(x.shape.size(), 3u);
  EXPECT_EQ(x.shape[0].param, "batch");
  EXPECT_EQ(x.shape[0].value, -1);
  EXPECT_EQ(x.shape[1].value, 3);
  EXPECT_EQ(x.shape[2].value, -1);
  EXPECT_EQ(x.shape[2].param, "");
  EXPECT_EQ(v["seq"].type.kind, Type::Kind::kSequence);
  EXPECT_EQ(v["seq"].type.element->dtype, DType::kInt64);
  EXPECT_EQ(v["opt"].type.kind, Type::Kind::kOptional);
  EXPECT_EQ(v["opt"].type.element->kind, Type::Kind::kSequence);
  EXPECT_EQ(v["opt"].type.element->element->shape.at(0).param, "n");
  EXPECT_EQ(v["map"].type.element->dtype, DType::kString);
  EXPECT_EQ(v["sp"].type.kind, Type::Kind::kSparseTensor);
  EXPECT_TRUE(v["scalar"].type.has_shape);
  EXPECT_TRUE(v["scalar"].type.shape.empty());
  EXPECT_FALSE(v["unranked"].type.has_shape);
  EXPECT_EQ(v["unranked"].doc, "value doc");
  EXPECT_EQ(v["x"].metadata, (Entries{{"vk", "vv"}}));
  EXPECT_EQ(read->graph.initializers.at(0).metadata, (Entries{{"tk", "tv"}}));
  ASSERT_EQ(read->functions.size(), 1u);
  EXPECT_EQ(read->functions[0].metadata, (Entries{{"fk", "fv"}}));
  const Function& f = read->functions[0];
  EXPECT_EQ(f.domain + "|" + f.name + "|" + f.overload + "|" + f.doc, "test.ops|Twice|o|function doc");
  EXPECT_EQ(f.inputs, Names{"a"});
  EXPECT_EQ(f.outputs, Names{"b"});
  EXPECT_EQ(f.attributes, Names{"alpha"});
  EXPECT_EQ(f.attribute_defaults.at(0).f, 2.0f);
  EXPECT_EQ(f.nodes.at(0).attributes.at(0).ref_attr_name, "alpha");
  EXPECT_EQ(f.opset_imports.size(), 2u);
  EXPECT_EQ(f.value_info.at(0).name, "b");
}

TEST(Read, TypedFieldsBecomeTheSameBytesAsRawData) {
  const auto typed = read_file(data_file("typed_data.onnx")), raw = read_file(data_file("raw_data.onnx"));
  ASSERT_TRUE(typed.ok()) << typed.status().message();
  ASSERT_TRUE(raw.ok()) << raw.status().message();
  ASSERT_EQ(typed->graph.initializers.size(), 26u);
  for (size_t i = 0; i < raw->graph.initializers.size(); ++i)
    EXPECT_TRUE(same(typed->graph.initializers[i], raw->graph.initializers[i])) << raw->graph.initializers[i].name;
  std::map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : typed->graph.initializers) by_name[tensor.name] = &tensor;
  EXPECT_EQ(bytes_of(*by_name["INT8"]), (std::vector<int>{1, 0, 255, 254, 1}));
  EXPECT_EQ(bytes_of(*by_name["INT4"]), (std::vector<int>{0x01, 0xEF, 0x01}));
  EXPECT_EQ(by_name["STRING"]->strings, (Names{std::string("\0\xff", 2), ""}));
  EXPECT_EQ(by_name["EMPTY"]->dims, (std::vector<int64_t>{3, 0}));
  EXPECT_TRUE(by_name["EMPTY"]->raw.empty());
}

TEST(Read, NestedGraphs) {
  const auto read = read_file(data_file("control_flow.onnx"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  const Graph& body = *read->graph.nodes.at(0).attributes.at(0).graphs.at(0);
  EXPECT_EQ(body.initializers.at(0).name, "k");
  EXPECT_EQ(body.nodes.at(0).attributes.at(0).graphs.at(0)->name, "b");
  ReadLimits limits;
  limits.max_depth = 3;
  EXPECT_TRUE(read_file(data_file("control_flow.onnx"), limits).ok());
  limits.max_depth = 2;
  EXPECT_ERROR(read_file(data_file("control_flow.onnx"), limits), Code::kInvalidGraph, "nested more than 2 deep",
               "control_flow.onnx: graph: node 0");
}

TEST(Read, OldFilesDeclareNoAttributeType) {
  const auto read = read_file(data_file("old_ir.onnx"));
  ASSERT_TRUE(read.ok()) << read.status().message();
  std::map<std::string, Attribute::Kind> kinds;
  for (const Attribute& attribute : read->graph.nodes.at(0).attributes) kinds[attribute.name] = attribute.kind;
  using Kind = Attribute::Kind;
  EXPECT_EQ(kinds, (std::map<std::string, Kind>{{"f", Kind::kFloat},
                                                {"i", Kind::kInt},
                                                {"s", Kind::kString},
                                                {"floats", Kind::kFloats},
                                                {"ints", Kind::kInts},
                                                {"strings", Kind::kStrings},
                                                {"t", Kind::kTensor}}));
}

TEST(Read, PackedAndUnpackedListsAreTheSame) {
  const std::vector<int64_t> dims = {2, 2};
  const std::vector<float> values = {1, 2, 3, 4};
  const std::string packed = model_with_tensor([&](pbf_writer& t) {
    t.add_packed_int64(field::Tensor::kDims, dims.begin(), dims.end());
    t.add_packed_float(field::Tensor::kFloatData, values.begin(), values.end());  // before the type, which is legal
    t.add_int32(field::Tensor::kDataType, 1);
  });
  const std::string unpacked = model_with_tensor([&](pbf_writer& t) {
    for (const int64_t d : dims) t.add_int64(field::Tensor::kDims, d);
    t.add_int32(field::Tensor::kDataType, 1);
    for (const float v : values) t.add_float(field::Tensor::kFloatData, v);
  });
  const auto a = read_text(packed), b = read_text(unpacked);
  ASSERT_TRUE(a.ok() && b.ok()) << a.status().message() << b.status().message();
  EXPECT_TRUE(same(*a, *b));
  EXPECT_EQ(floats_of(a->graph.initializers.at(0)), values);
  EXPECT_EQ(a->graph.initializers[0].owned, nullptr);  // straight from the file
  const auto ints = read_text(model_with_attribute([](pbf_writer& t) {
    const std::vector<int64_t> some = {-1, 300};
    t.add_packed_int64(field::Attribute::kInts, some.begin(), some.end());
    t.add_int64(field::Attribute::kInts, 5);
  }));
  ASSERT_TRUE(ints.ok()) << ints.status().message();
  EXPECT_EQ(ints->graph.nodes[0].attributes[0].ints, (std::vector<int64_t>{-1, 300, 5}));
}

TEST(Read, UnknownFieldsAreSkipped) {
  const std::string bytes = model_with_tensor([](pbf_writer& t) {
    t.add_int64(1000, 5);
    t.add_string(1001, "future");
    t.add_fixed64(1002, 1);
    t.add_fixed32(1003, 1);
    t.add_int32(field::Tensor::kDataType, 3);
    t.add_bytes(field::Tensor::kRawData, "x");
  });
  const auto read = read_text(bytes);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(bytes_of(read->graph.initializers.at(0)), std::vector<int>{'x'});
}

TEST(Read, PayloadMustFitTheShape) {
  const auto tensor = [](std::vector<int64_t> dims, DType dtype, std::string raw) {
    return read_text(model_with_tensor([&](pbf_writer& t) {
      for (const int64_t d : dims) t.add_int64(field::Tensor::kDims, d);
      t.add_int32(field::Tensor::kDataType, static_cast<int32_t>(dtype));
      t.add_bytes(field::Tensor::kRawData, raw);
    }));
  };
  EXPECT_TRUE(tensor({3}, DType::kInt4, "ab").ok());
  EXPECT_TRUE(tensor({5}, DType::kUint2, "ab").ok());
  EXPECT_TRUE(tensor({0, 7}, DType::kFloat, "").ok());
  EXPECT_TRUE(tensor({}, DType::kFloat, "abcd").ok());
  EXPECT_ERROR(tensor({2, 3}, DType::kFloat, std::string(20, 'x')), Code::kInvalidGraph, "graph: tensor 0 'w'", "[2, 3]",
               "need 24 bytes", "raw_data holds 20");
  EXPECT_ERROR(tensor({3}, DType::kInt4, "abc"), Code::kInvalidGraph, "need 2 bytes", "holds 3");
  EXPECT_ERROR(tensor({2}, DType::kFloat, ""), Code::kInvalidGraph, "need 8 bytes", "holds 0");
  EXPECT_ERROR(tensor({-1}, DType::kFloat, "abcd"), Code::kInvalidGraph, "negative dimension");
  EXPECT_ERROR(tensor({int64_t{1} << 40, int64_t{1} << 40}, DType::kFloat, ""), Code::kInvalidGraph,
               "more elements than can be counted");
  EXPECT_ERROR(tensor({0, int64_t{1} << 40, int64_t{1} << 40}, DType::kFloat, ""), Code::kInvalidGraph,
               "more elements than can be counted");
  EXPECT_ERROR(tensor({int64_t{1} << 62}, DType::kFloat, ""), Code::kInvalidGraph, "more bytes than can be counted");
  EXPECT_ERROR(tensor({int64_t{1} << 50}, DType::kInt8, ""), Code::kInvalidGraph, "at most");
  EXPECT_ERROR(tensor(std::vector<int64_t>(65, 1), DType::kInt8, "a"), Code::kInvalidGraph, "65 dimensions");
  EXPECT_ERROR(tensor({1}, DType::kUndefined, "a"), Code::kInvalidGraph, "element type is missing");
  EXPECT_ERROR(tensor({1}, static_cast<DType>(99), "a"), Code::kInvalidGraph, "element type 99 is unknown");
  EXPECT_ERROR(tensor({1}, DType::kString, "a"), Code::kInvalidGraph, "string_data");
}

TEST(Read, TypedFieldsMustFitTheType) {
  const auto tensor = [](int64_t size, DType dtype, auto fill) {
    return read_text(model_with_tensor([&](pbf_writer& t) {
      t.add_int64(field::Tensor::kDims, size);
      t.add_int32(field::Tensor::kDataType, static_cast<int32_t>(dtype));
      fill(t);
    }));
  };
  const auto int32 = [](int32_t value) { return [value](pbf_writer& t) { t.add_int32(field::Tensor::kInt32Data, value); }; };
  EXPECT_TRUE(tensor(1, DType::kInt8, int32(-128)).ok());
  EXPECT_TRUE(tensor(1, DType::kFloat16, int32(-1)).ok());
  EXPECT_TRUE(tensor(1, DType::kBFloat16, int32(0xffff)).ok());
  EXPECT_TRUE(tensor(1, DType::kInt32, int32(INT32_MIN)).ok());
  EXPECT_ERROR(tensor(1, DType::kUint8, int32(256)), Code::kInvalidGraph, "256 at index 0", "uint8");
  EXPECT_ERROR(tensor(1, DType::kUint8, int32(-1)), Code::kInvalidGraph, "does not fit");
  EXPECT_ERROR(tensor(1, DType::kInt8, int32(128)), Code::kInvalidGraph, "does not fit");
  EXPECT_ERROR(tensor(1, DType::kFloat, int32(1)), Code::kInvalidGraph, "int32_data", "expected float_data");
  EXPECT_ERROR(tensor(2, DType::kInt8, int32(1)), Code::kInvalidGraph, "need 2 bytes", "int32_data holds 1");
  EXPECT_ERROR(tensor(1, DType::kInt8, [](pbf_writer& t) { t.add_int32(5, 1), t.add_bytes(9, "a"); }), Code::kInvalidGraph,
               "both raw_data and int32_data");
  EXPECT_ERROR(tensor(1, DType::kInt8, [](pbf_writer& t) { t.add_int32(5, 1), t.add_int64(7, 1); }), Code::kInvalidGraph,
               "both int32_data and int64_data");
  EXPECT_ERROR(tensor(1, DType::kUint32, [](pbf_writer& t) { t.add_uint64(11, uint64_t{1} << 32); }), Code::kInvalidGraph,
               "does not fit");
  EXPECT_TRUE(tensor(1, DType::kUint64, [](pbf_writer& t) { t.add_uint64(11, ~uint64_t{0}); }).ok());
  EXPECT_ERROR(tensor(2, DType::kString, [](pbf_writer& t) { t.add_bytes(6, "a"); }), Code::kInvalidGraph, "needs 2 strings",
               "holds 1");
  EXPECT_ERROR(tensor(1, DType::kFloat, [](pbf_writer& t) { t.add_message(3, std::string()); }), Code::kNotImplemented,
               "segments");
  const auto complex = tensor(1, DType::kComplex128, [](pbf_writer& t) { t.add_double(10, 1.0), t.add_double(10, 2.0); });
  ASSERT_TRUE(complex.ok()) << complex.status().message();
  EXPECT_EQ(complex->graph.initializers[0].raw.size(), 16u);
}

TEST(Read, AttributesMustAgreeWithThemselves) {
  using F = field::Attribute;
  const auto attribute = [](auto fill) { return read_text(model_with_attribute(fill)); };
  EXPECT_TRUE(attribute([](pbf_writer& a) { a.add_int32(F::kType, 2); }).ok());  // an int of 0, as proto3 writers leave it out
  EXPECT_TRUE(attribute([](pbf_writer& a) { a.add_string(F::kRefAttrName, "r"); }).ok());
  EXPECT_ERROR(attribute([](pbf_writer&) {}), Code::kInvalidGraph, "graph: node 0 '': attribute 0 'a'",
               "neither a type nor a value");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_int32(F::kType, 2), a.add_float(F::kF, 1); }), Code::kInvalidGraph,
               "declared as int", "kind float");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_int64(F::kI, 2), a.add_float(F::kF, 1); }), Code::kInvalidGraph,
               "expected one value");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_int32(F::kType, 77); }), Code::kInvalidGraph, "type 77 is unknown");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_int32(F::kType, 4); }), Code::kInvalidGraph,
               "declared as tensor but has no value");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_string(F::kRefAttrName, "r"), a.add_int64(F::kI, 1); }), Code::kInvalidGraph,
               "also has a value");
  EXPECT_ERROR(attribute([](pbf_writer& a) { a.add_string(F::kName, ""), a.add_int64(F::kI, 1); }), Code::kInvalidGraph,
               "name is missing");
}

TEST(Read, BrokenProtobufNamesThePlace) {
  // The graph claims more bytes than there are; 64-bit lengths must not wrap.
  for (const std::string length : {"\x05", "\x85\x80\x80\x80\x10", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"})
    EXPECT_ERROR(read_text("\x08\x0a\x3a" + length + "\x12\x02gg"), Code::kInvalidProtobuf, "truncated");
  EXPECT_ERROR(read_text("\x08\x0a\x3a\x03\x0a\x05g"), Code::kInvalidProtobuf, "model in memory: graph", "ends in the middle");
  EXPECT_ERROR(read_text("\x08\x0a\x38\x01"), Code::kInvalidProtobuf, "wrong wire type");
  EXPECT_ERROR(read_text("\x08\x0a"), Code::kInvalidProtobuf, "holds no graph");
  EXPECT_ERROR(read_text(std::string(20, '\xff')), Code::kInvalidProtobuf, "malformed protobuf");
  EXPECT_ERROR(read_text(""), Code::kInvalidProtobuf, "empty");
  const std::string whole = slurp(data_file("every_field.onnx"));
  for (size_t size = 0; size < whole.size(); ++size)
    if (const auto read = read_text(whole.substr(0, size)); !read.ok()) {
      EXPECT_EQ(read.status().code(), Code::kInvalidProtobuf) << size;
    }
}

TEST(Read, HostileNamesAreTamedInMessages) {
  const auto read = read_text(model_with_graph([](pbf_writer& g) {
    pbf_writer node(g, field::Graph::kNode);
    node.add_string(field::Node::kName, "a\nb" + std::string(100000, 'x'));
  }));
  EXPECT_ERROR(read, Code::kInvalidGraph, "'a?bxxx", "op_type");
  EXPECT_LT(read.status().message().size(), 400u);
}

TEST(Read, DeepTypesAndManyItemsAreRefused) {
  std::string type;
  for (int i = 0; i < 70; ++i) {
    std::string inner, outer;
    pbf_writer(inner).add_message(field::ElementType::kElemType, type);
    pbf_writer(outer).add_message(field::Type::kSequenceType, inner);
    type = outer;
  }
  const auto deep = read_text(model_with_graph([&](pbf_writer& g) { pbf_writer(g, field::Graph::kInput).add_message(2, type); }));
  EXPECT_ERROR(deep, Code::kInvalidGraph, "types are nested more than 64 deep");
  ReadLimits limits;
  limits.max_items = 10;
  const std::string many = model_with_graph([](pbf_writer& g) {
    for (int i = 0; i < 11; ++i) g.add_message(field::Graph::kValueInfo, std::string());
  });
  EXPECT_TRUE(read_text(many).ok());
  EXPECT_ERROR(read_text(many, "", limits), Code::kInvalidGraph, "more than 10 parts");
}

TEST(Read, SparseTensorsMustAgree) {
  const auto sparse = [](int64_t values, std::vector<int64_t> indices) {
    return read_text(model_with_graph([&](pbf_writer& g) {
      pbf_writer s(g, field::Graph::kSparseInitializer);
      {
        pbf_writer v(s, field::SparseTensor::kValues);
        v.add_int64(field::Tensor::kDims, values);
        v.add_int32(field::Tensor::kDataType, 3);
        v.add_bytes(field::Tensor::kRawData, std::string(values, 'v'));
      }
      if (!indices.empty()) {
        pbf_writer i(s, field::SparseTensor::kIndices);
        int64_t count = 1;
        for (const int64_t d : indices) i.add_int64(field::Tensor::kDims, d), count *= d;
        i.add_int32(field::Tensor::kDataType, 7);
        i.add_bytes(field::Tensor::kRawData, std::string(count * 8, '\0'));
      }
      s.add_int64(field::SparseTensor::kDims, 4);
      s.add_int64(field::SparseTensor::kDims, 4);
    }));
  };
  EXPECT_TRUE(sparse(3, {3}).ok());
  EXPECT_TRUE(sparse(3, {3, 2}).ok());
  EXPECT_ERROR(sparse(3, {3, 3}), Code::kInvalidGraph, "sparse tensor 0", "[3, 3]");
  EXPECT_ERROR(sparse(3, {2}), Code::kInvalidGraph, "do not go with");
  EXPECT_ERROR(sparse(3, {}), Code::kInvalidGraph, "indices are missing");
}

class ReadFile : public FolderTest {};

TEST_F(ReadFile, WrongFilesGetAClearSentence) {
  EXPECT_ERROR(read_file(at("none.onnx")), Code::kNoSuchFile, "none.onnx", "no such file");
  EXPECT_ERROR(read_file(folder_), Code::kInvalidArgument, "folder");
  const auto file = [&](const std::string& text) { return put("m.onnx", text), read_file(at("m.onnx")); };
  EXPECT_ERROR(file(""), Code::kInvalidProtobuf, "m.onnx: it is empty");
  EXPECT_ERROR(file(std::string("\x40\0\0\0\0\0\0\0{\"__metadata__\":", 23)), Code::kInvalidProtobuf,
               "m.onnx: this is a safetensors checkpoint", "ocior convert");
  EXPECT_ERROR(file(std::string("\x18\x00\x00\x00ORTM\0\0\0\0", 12)), Code::kInvalidProtobuf, "ONNX Runtime's own format");
  EXPECT_ERROR(file(std::string("PK\x03\x04\0\0\x08\x08", 8)), Code::kInvalidProtobuf, "PyTorch checkpoint", "ocior convert");
  EXPECT_ERROR(file("\x80\x02}q\x01."), Code::kInvalidProtobuf, "PyTorch checkpoint");
  EXPECT_ERROR(file("version https://git-lfs.github.com/spec/v1\noid sha256:0"), Code::kInvalidProtobuf, "git lfs pull");
  EXPECT_ERROR(file("GGUF\x03"), Code::kInvalidProtobuf, "GGUF");
  EXPECT_ERROR(file("<!DOCTYPE html>"), Code::kInvalidProtobuf, "HTML");
  EXPECT_ERROR(file("{\"a\": 1}"), Code::kInvalidProtobuf, "JSON");
  EXPECT_ERROR(file("hello, this is a text"), Code::kInvalidProtobuf, "m.onnx: ");
  const std::string whole = slurp(data_file("every_field.onnx"));
  EXPECT_ERROR(file(whole.substr(0, whole.size() / 2)), Code::kInvalidProtobuf, "truncated");
}

// Reading must follow the graph, not the weights: a sparse file of 5 GB with its graph above 4 GiB reads at once and stays on the
// disk.
TEST_F(ReadFile, ReadsFilesAboveFourGigabytesWithoutTouchingPayloads) {
  const int64_t big = (int64_t{5} << 30) / 4;
  std::string tensor, tail;
  pbf_writer t(tensor);
  t.add_int64(field::Tensor::kDims, big);
  t.add_int32(field::Tensor::kDataType, 1);
  t.add_string(field::Tensor::kName, "huge");
  tensor += "\x4a";  // raw_data
  protozero::add_varint_to_buffer(&tensor, static_cast<uint64_t>(big) * 4);
  pbf_writer(tail).add_string(field::Graph::kName, "after");
  std::string graph = "\x2a";  // initializer
  protozero::add_varint_to_buffer(&graph, tensor.size() + static_cast<uint64_t>(big) * 4);
  graph += tensor;
  std::string model = "\x08\x0a\x3a";
  protozero::add_varint_to_buffer(&model, graph.size() + static_cast<uint64_t>(big) * 4 + tail.size());
  model += graph;
  {
    std::ofstream out(at("huge.onnx"), std::ios::binary);
    out << model;
    out.seekp(static_cast<std::streamoff>(model.size()) + big * 4);
    out << tail;
    if (!out.flush()) GTEST_SKIP() << "no sparse files of this size here";
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto read = read_file(at("huge.onnx"));
  const auto took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->graph.name, "after");
  EXPECT_EQ(read->graph.initializers.at(0).raw.size(), static_cast<size_t>(big) * 4);
  EXPECT_LT(took, std::chrono::milliseconds(500));
}

// Further real models: folders in OCIOR_ONNX_MODELS (separated by ':') are read and written back besides the checked-in ones.
TEST_F(ReadFile, AllModelsReadAndSurviveARoundTrip) {
  std::string folders = data_file("");
  if (const char* more = getenv("OCIOR_ONNX_MODELS")) folders += std::string(":") + more;
  int count = 0;
  for (size_t from = 0, to; from < folders.size(); from = to + 1) {
    to = std::min(folders.find(':', from), folders.size());
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folders.substr(from, to - from))) {
      if (entry.path().extension() != ".onnx") continue;
      const auto model = read_file(entry.path());
      ASSERT_TRUE(model.ok()) << model.status().message();
      const Status written = write_file(*model, at("out.onnx"));
      ASSERT_TRUE(written.ok()) << entry.path() << written.message();
      const auto again = read_file(at("out.onnx"));
      ASSERT_TRUE(again.ok()) << again.status().message();
      EXPECT_TRUE(same(*model, *again)) << entry.path();
      ++count;
    }
  }
  RecordProperty("models", count);
  EXPECT_GE(count, 6);
}

}  // namespace
}  // namespace ocior::onnx
