// Protobuf messages as sequences of fields: a thin skin over protozero for the reader of this folder.
// protozero 1.7 cuts lengths to 32 bits; here they are 64 bits and checked, so files above 2 GiB can be read.
// Malformed bytes throw protozero::exception, which never leaves read.cpp. Views point into the given bytes. Not shared by
// threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <protozero/pbf_reader.hpp>
#include <protozero/varint.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ocior::onnx {

// A known field arrived in an encoding that its type cannot have.
struct WrongWireType : protozero::exception {
  const char* what() const noexcept override { return "a field has the wrong wire type"; }
};

// Walks over the fields of one message: while (f.next()) switch (f.tag()) { case 1: x = f.int64(); break; default: f.skip(); }
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : reader_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {}

  // Moves to the next field; false at the end. The field must then be consumed by exactly one of the calls below.
  bool next() { return reader_.next(); }
  uint32_t tag() const { return reader_.tag(); }
  bool is_packed() const { return reader_.wire_type() == protozero::pbf_wire_type::length_delimited; }

  int64_t int64() { return expect(protozero::pbf_wire_type::varint).get_int64(); }
  int32_t int32() { return expect(protozero::pbf_wire_type::varint).get_int32(); }
  float float32() { return expect(protozero::pbf_wire_type::fixed32).get_float(); }
  std::span<const std::byte> bytes() {
    expect(protozero::pbf_wire_type::length_delimited);
    const protozero::data_view rest = reader_.data();
    const char* at = rest.data();
    const char* const end = at + rest.size();
    const uint64_t size = protozero::decode_varint(&at, end);
    if (size > static_cast<uint64_t>(end - at)) throw protozero::end_of_buffer_exception{};
    reader_ = protozero::pbf_reader(at + size, static_cast<size_t>(end - at) - size);
    return {reinterpret_cast<const std::byte*>(at), static_cast<size_t>(size)};
  }
  std::string text() {
    const auto view = bytes();
    return {reinterpret_cast<const char*>(view.data()), view.size()};
  }
  Fields message() { return Fields(bytes()); }
  void skip() {
    if (is_packed()) bytes();
    else reader_.skip();
  }

  // Calls add(uint64_t) for the one value of an unpacked or the many of a packed repeated varint field.
  template <class Add>
  void each_varint(Add add) {
    if (!is_packed()) return add(expect(protozero::pbf_wire_type::varint).get_uint64());
    const auto view = bytes();
    const char* at = reinterpret_cast<const char*>(view.data());
    for (const char* const end = at + view.size(); at != end;) add(protozero::decode_varint(&at, end));
  }
  // The little-endian bytes of one unpacked or many packed fixed-width values of T (float, double).
  template <class T>
  std::span<const std::byte> fixed() {
    if (is_packed()) {
      const auto view = bytes();
      if (view.size() % sizeof(T) != 0) throw protozero::invalid_length_exception{};
      return view;
    }
    expect(sizeof(T) == 4 ? protozero::pbf_wire_type::fixed32 : protozero::pbf_wire_type::fixed64);
    const auto* at = reinterpret_cast<const std::byte*>(reader_.data().data());
    reader_.skip();
    return {at, sizeof(T)};
  }
  void append_int64s(std::vector<int64_t>& out) {
    each_varint([&](uint64_t value) { out.push_back(static_cast<int64_t>(value)); });
  }
  void append_floats(std::vector<float>& out) {
    const auto view = fixed<float>();
    const size_t old = out.size();
    out.resize(old + view.size() / sizeof(float));
    if (!view.empty()) std::memcpy(out.data() + old, view.data(), view.size());
  }

 private:
  protozero::pbf_reader& expect(protozero::pbf_wire_type type) {
    if (!reader_.has_wire_type(type)) throw WrongWireType{};
    return reader_;
  }

  protozero::pbf_reader reader_;
};

}  // namespace ocior::onnx
