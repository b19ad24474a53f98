// The abstract operator that the graph sees: its name, its types and what it means. src/ops implements it, one file per operator.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/type.h"
#include "ocior/status.h"

namespace ocior::graph {

// What infer() sees and says. In symbolic inference dims may be polynomials; when a session binds, every known dim is a number.
// Errors need no node name: the caller adds it.
class ShapeContext {
 public:
  virtual ~ShapeContext() = default;
  virtual int inputs() const = 0;
  virtual int outputs() const = 0;
  virtual bool has(int i) const = 0;  // input i is given (not omitted)
  virtual const Type& in(int i) const = 0;
  virtual const Tensor* constant(int i) const = 0;  // the value of input i when it is known now, else null
  // Elements of a small integer input as dims when they are known at least symbolically (rank 0 or 1, or flattened), else null.
  virtual const Dims* data(int i) const = 0;
  virtual void set(int i, Type type) = 0;
  virtual void set_data(int i, Dims elements) = 0;
  virtual Dim fresh(std::string_view hint) = 0;  // a dim nothing is known of

  // Shorthands.
  DType dtype(int i) const { return in(i).dtype; }
  const std::optional<Dims>& shape(int i) const { return in(i).shape; }
  void set(int i, DType dtype, std::optional<Dims> shape) { set(i, Type::tensor(dtype, std::move(shape))); }
};

// What reference() sees: dense CPU tensors. Outputs are allocated by shape inference; where that could not know, by allocate().
class RefContext {
 public:
  virtual ~RefContext() = default;
  virtual int inputs() const = 0;
  virtual int outputs() const = 0;
  virtual bool has(int i) const = 0;
  virtual const Tensor& in(int i) const = 0;
  virtual bool wants(int i) const = 0;  // output i has a name
  virtual Tensor& out(int i) = 0;
  virtual Status allocate(int i, DType dtype, Shape shape) = 0;  // (re)allocates output i
  // Input i of whatever kind; kNone when it is omitted. A tensor's bytes may be gone after the call: what is kept is a clone.
  virtual Value value(int i) const = 0;
  // Gives output i a value that owns its bytes; nothing when nobody wants it. Outputs that are no tensors have this way only.
  virtual Status set_value(int i, Value value) = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view domain() const = 0;       // "" is ai.onnx; "ai.ocior" is ours
  virtual int opset() const = 0;                     // of its domain, as imported
  virtual const Attributes& attributes() const = 0;  // as parsed, defaults left out
  virtual Status infer(ShapeContext& c) const = 0;
  virtual Status reference(RefContext& c) const = 0;
  virtual bool pure() const = 0;  // same inputs, same outputs: may be folded and shared
  virtual std::span<const std::shared_ptr<Graph>> subgraphs() const = 0;
  virtual bool any_kind() const { return false; }  // takes sequences, optionals or maps; others are given tensors only
};

}  // namespace ocior::graph
