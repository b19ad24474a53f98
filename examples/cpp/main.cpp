// Loads a model, prints its inputs and outputs, runs it on ones, and prints the shape and the first values of every output.
//   example model.onnx [dimension=value ...]
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "ocior/ocior.h"

namespace {

int fail(const ocior::Status& status) {
  std::cerr << status.message() << '\n';
  return 1;
}

// An array of ones of the input's type; unknown dimensions are looked up by name, else 1.
ocior::Result<ocior::Value> ones(const ocior::ValueInfo& input, const std::map<std::string, int64_t>& dimensions) {
  std::vector<int64_t> shape;
  for (const ocior::Dimension& d : input.shape) {
    const auto known = dimensions.find(d.symbol);
    shape.push_back(d.value >= 0 ? d.value : known != dimensions.end() ? known->second : 1);
  }
  auto value = ocior::Value::tensor(input.dtype, shape);
  if (!value.ok()) return value;
  if (input.dtype == ocior::DType::kInt64)
    for (int64_t& x : value->as<int64_t>()) x = 1;
  else if (input.dtype == ocior::DType::kFloat)
    for (float& x : value->as<float>()) x = 1;
  else
    return ocior::Status(ocior::Code::kNotImplemented,
                         "this example feeds int64 and float inputs only, not '" + input.name + "'");
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: example model.onnx [dimension=value ...]\n";
    return 2;
  }
  std::map<std::string, int64_t> dimensions;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (const size_t at = word.find('='); at != std::string::npos)
      dimensions[word.substr(0, at)] = std::atoll(word.c_str() + at + 1);
  }
  auto session = ocior::Session::load(argv[1]);
  if (!session.ok()) return fail(session.status());
  std::vector<ocior::Feed> feeds;
  for (const ocior::ValueInfo& input : session->inputs()) {
    auto value = ones(input, dimensions);
    if (!value.ok()) return fail(value.status());
    std::cout << "input " << input.name << ' ' << input.type_string() << '\n';
    feeds.push_back({input.name, *value});
  }
  auto outputs = session->run(feeds);
  if (!outputs.ok()) return fail(outputs.status());
  for (size_t i = 0; i < outputs->size(); ++i) {
    const ocior::Value& value = (*outputs)[i];
    std::cout << "output " << session->outputs()[i].name << ' ' << ocior::name_of(value.dtype()) << '[';
    for (size_t d = 0; d < value.shape().size(); ++d) std::cout << (d ? ", " : "") << value.shape()[d];
    std::cout << ']';
    if (value.dtype() == ocior::DType::kFloat)
      for (size_t k = 0; k < value.as<float>().size() && k < 4; ++k) std::cout << ' ' << value.as<float>()[k];
    std::cout << '\n';
  }
}
