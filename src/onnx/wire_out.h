// Protobuf output in two runs over the same description: a Sizer notes the length of every message in the order of visits, an
// Emitter streams the fields with those lengths. Lengths are 64-bit. Used by write.cpp only; one thread, one run each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <protozero/types.hpp>
#include <protozero/varint.hpp>
#include <span>
#include <utility>
#include <vector>

#include "ocior/status.h"

namespace ocior::onnx {

inline uint64_t key_of(uint32_t tag, protozero::pbf_wire_type type) { return protozero::tag_and_type(tag, type); }

// Counts bytes and notes message lengths.
class Sizer {
 public:
  void varint(uint32_t tag, uint64_t value) { size_ += key(tag) + protozero::length_of_varint(value); }
  void float32(uint32_t tag, float) { size_ += key(tag) + sizeof(float); }
  void bytes(uint32_t tag, std::span<const std::byte> view) {
    size_ += key(tag) + protozero::length_of_varint(view.size()) + view.size();
  }
  template <class Body>
  Status message(uint32_t tag, Body body) {
    const size_t index = sizes_.size();
    sizes_.push_back(0);
    const uint64_t before = std::exchange(size_, 0);
    Status status = body();
    sizes_[index] = size_;
    size_ += before + key(tag) + protozero::length_of_varint(sizes_[index]);
    return status;
  }

  uint64_t size() const { return size_; }
  std::vector<uint64_t> take_sizes() { return std::move(sizes_); }

 private:
  static uint64_t key(uint32_t tag) { return protozero::length_of_varint(key_of(tag, protozero::pbf_wire_type::varint)); }

  uint64_t size_ = 0;
  std::vector<uint64_t> sizes_;
};

// Sends the same fields to `sink(span) -> Status`; the first error stays.
template <class Sink>
class Emitter {
 public:
  Emitter(std::vector<uint64_t> sizes, Sink sink) : sizes_(std::move(sizes)), sink_(std::move(sink)) {}

  void varint(uint32_t tag, uint64_t value) { put(key_of(tag, protozero::pbf_wire_type::varint)), put(value); }
  void float32(uint32_t tag, float value) {
    put(key_of(tag, protozero::pbf_wire_type::fixed32)), send(std::as_bytes(std::span(&value, 1)));
  }
  void bytes(uint32_t tag, std::span<const std::byte> view) {
    put(key_of(tag, protozero::pbf_wire_type::length_delimited)), put(view.size()), send(view);
  }
  template <class Body>
  Status message(uint32_t tag, Body body) {
    put(key_of(tag, protozero::pbf_wire_type::length_delimited)), put(sizes_[next_++]);
    OCIOR_RETURN_IF_ERROR(status_);
    return body();
  }
  const Status& status() const { return status_; }

 private:
  void put(uint64_t value) {
    char buffer[protozero::max_varint_length];
    const int n = protozero::add_varint_to_buffer(buffer, value);
    send(std::as_bytes(std::span(buffer, static_cast<size_t>(n))));
  }
  void send(std::span<const std::byte> view) {
    if (status_.ok()) status_ = sink_(view);
  }

  std::vector<uint64_t> sizes_;
  size_t next_ = 0;
  Sink sink_;
  Status status_;
};

}  // namespace ocior::onnx
