// What operators with subgraphs share: inferring a body from the types of its inputs, running it by references, and one view of a
// running step for reference() and run() alike. For If, Loop, Scan and SequenceMap.
#pragma once

#include <span>
#include <vector>

#include "graph/graph.h"
#include "ops/operator.h"

namespace ocior::ops {

// `type` without the shapes inside of sequences, optionals and maps: elements may differ, and nobody checks their declarations.
Type without_element_shapes(const Type& type);

// The type of a value that is of type `a` or of type `b`: dims that differ are fresh ones. Errors: other kinds or element types.
Result<Type> merge_types(ShapeContext& c, const Type& a, const Type& b);

// Checks that input i is a tensor of `dtype` ("the condition").
Status check_tensor(const ShapeContext& c, int i, DType dtype, std::string_view what);

// How many inputs behind the operator's own are captures of its subgraphs, and an error when the node has fewer inputs.
int capture_count(std::span<const std::shared_ptr<graph::Graph>> subgraphs);
Result<int> own_inputs(const ShapeContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs);

// Infers all types of `body` from those of its inputs and its captures, which are inputs of the node from `first_capture` on.
// Whatever an earlier inference knew is forgotten, as it may have had other input types. Called by one thread at a time, while a
// graph is built. Errors: outputs of unknown type.
Status infer_body(ShapeContext& c, graph::Graph& body, std::span<const Type> inputs, int first_capture);

// The same for a body that runs again and again: its inputs from `first_in` on are its outputs from `first_out` on of the
// iteration before, where a bare value may go on as an optional. `inputs` become types that hold in every iteration.
Status infer_carried(ShapeContext& c, graph::Graph& body, std::vector<Type>& inputs, int first_capture, size_t first_in,
                     size_t first_out, size_t count);

// The type of a carried value behind the last iteration, as the outer graph sees it: `before` is its type before the first one.
Type after_iterations(ShapeContext& c, const Type& before, const Type& carried);
// The body's dims as the outer graph sees them: symbols of the body mean nothing there.
Dims known_dims(ShapeContext& c, const Dims& dims);

// A value that owns its bytes and may outlive the step.
Result<Value> own(const Value& value);

// One element of a dense tensor along `axis`.
Result<Tensor> slice_at(const Tensor& tensor, int64_t axis, int64_t index);
// Copies `count` places along `axis` of `from`, which is like `to` but for that axis.
void copy_range(Tensor& to, int64_t axis, int64_t at, const Tensor& from, int64_t first, int64_t count);
// Copies `element` to place `index` along `axis` of `to`, whose shape is the element's with `axis` put in.
void put_slice(Tensor& to, int64_t axis, int64_t index, const Tensor& element);
// Elements of one type and shape side by side along a new axis. Without elements the shape follows from `type`, unknown dims
// being 0.
Result<Tensor> stack(std::span<const Value> elements, int64_t axis, const Type& type, std::string_view what);

// The one element of a bool or integer tensor.
Result<bool> one_bool(const Value& value, std::string_view what);
Result<int64_t> one_integer(const Value& value, std::string_view what);

// A running step as an operator with subgraphs sees it.
class ControlContext {
 public:
  explicit ControlContext(RefContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs);
  explicit ControlContext(CpuContext& c, std::span<const std::shared_ptr<graph::Graph>> subgraphs);  // c.subgraphs() is there

  int inputs() const { return inputs_; }  // the operator's own
  int outputs() const { return outputs_; }
  Value value(int i) const;
  bool wants_tensor(int i) const;  // output i, a tensor, has a name
  Status set_value(int i, Value value);
  // The outputs of a subgraph; fails when the run was asked to stop.
  Status call(int subgraph, std::span<const Value> inputs, std::vector<Value>& outputs);

 private:
  RefContext* ref_ = nullptr;
  CpuContext* cpu_ = nullptr;
  std::span<const std::shared_ptr<graph::Graph>> subgraphs_;
  int inputs_, outputs_;
};

}  // namespace ocior::ops
