// Einsum: what inference knows of symbols, sums over many operands, and errors.
#include "ops/test_call.h"

namespace ocior::ops {
namespace {

Tensor ones(Shape shape) {
  const auto n = static_cast<size_t>(element_count(shape));
  return tensor_of<float>(std::move(shape), std::vector<float>(n, 1));
}

Attributes equation(const char* text) { return {{"equation", std::string(text)}}; }

std::string inferred(const char* text, const std::vector<Dims>& shapes) {
  const auto op = make_operator("", "Einsum", kNewestOpset, equation(text), static_cast<int>(shapes.size()), 1);
  if (!op.ok()) return op.status().message();
  std::vector<Type> types;
  for (const Dims& shape : shapes) types.push_back(Type::tensor(DType::kFloat, shape));
  std::vector<OpInput> inputs;
  for (const Type& type : types) inputs.push_back({&type});
  const auto out = infer_op(**op, inputs, 1);
  return out.ok() ? to_string(*(*out)[0].type.shape) : out.status().message();
}

TEST(Einsum, ShapesFollowSymbols) {
  const Dim b = Dim::symbol("batch"), n = Dim::symbol("seq");
  EXPECT_EQ(inferred("bhid,bhjd->bhij", {{b, 12, n, 64}, {b, 12, n, 64}}), "[batch, 12, seq, seq]");
  EXPECT_EQ(inferred("...ij,...jk", {{b, 3, 4}, {5, b, 4, 6}}), "[5, batch, 3, 6]");
  EXPECT_EQ(inferred("ba,aB", {{2, 3}, {3, 4}}), "[4, 2]");
}

TEST(Einsum, ManyOperandsDoNotMultiplyTheirExtents) {
  std::vector<Tensor> inputs(12, ones({50}));  // 50 to the twelfth products, were they not summed first
  const auto out = call("Einsum", equation("a,b,c,d,e,f,g,h,i,j,k,l->"), inputs);
  EXPECT_FLOAT_EQ((*out)[0].as<float>()[0], 2.4414062e20f);
  std::vector<Tensor> alike(40, ones({3}));
  std::string text = "a";
  for (int i = 1; i < 40; ++i) text += ",a";
  EXPECT_FLOAT_EQ((*call("Einsum", equation((text + "->").c_str()), alike))[0].as<float>()[0], 3);
}

TEST(Einsum, WrongEquationsAreErrors) {
  for (const char* text : {"", "ij", "ij,jk,kl->il", "i1,jk->ik", "ij,jk->im", "ij,jk->ii", "i..,jk->i", "......,jk->j",
                           "ij,jk->i->k", "ij,jk->i,k", "ij;jk", "i....,jk", "\xC3\xA9,jk"})
    failure("Einsum", equation(text), {ones({2, 2}), ones({2, 2})});
  failure("Einsum", {}, {ones({2, 2})});
  failure("Einsum", equation("ij,jk->ik"), {ones({2, 3}), ones({4, 2})});
  failure("Einsum", equation("ij,jk->ik"), {ones({2, 3, 1}), ones({3, 2})});
  failure("Einsum", equation("ii->i"), {ones({2, 3})});
  failure("Einsum", equation("...ijk->..."), {ones({2, 3})});
}

}  // namespace
}  // namespace ocior::ops
