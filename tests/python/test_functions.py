"""Functions that a model brings along, and sparse tensors."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import ocior  # noqa: E402

OPSET = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
X = np.array([[-1.0, 2.0, 3.0], [0.5, -4.0, 6.0]], np.float32)


def model(nodes, functions, opset=OPSET, initializers=(), **fields):
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(initializers), **fields)
    return helper.make_model(graph, functions=functions, opset_imports=opset, ir_version=10).SerializeToString()


def run(data, x=X):
    return ocior.InferenceSession(data).run(None, {"x": x})[0]


def scale(factor=None):
    """own.Scale(a) = a * factor; factor is an attribute, with a default when one is given."""
    constant = helper.make_node("Constant", [], ["k"])
    attribute = constant.attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "value_float", "factor", onnx.AttributeProto.FLOAT
    f = helper.make_function("own", "Scale", ["a"], ["b"], [constant, helper.make_node("Mul", ["a", "k"], ["b"])], OPSET[:1],
                             [] if factor is not None else ["factor"])
    if factor is not None:
        f.attribute_proto.append(helper.make_attribute("factor", factor))
    return f


def test_attributes_and_defaults():
    nodes = [helper.make_node("Scale", ["x"], ["h"], domain="own", factor=3.0), helper.make_node("Scale", ["h"], ["y"], domain="own")]
    np.testing.assert_array_equal(run(model(nodes, [scale(2.0)])), X * 6)


def test_a_missing_attribute_is_named():
    with pytest.raises(Exception, match="Scale.*Constant"):
        run(model([helper.make_node("Scale", ["x"], ["y"], domain="own")], [scale()]))


def test_calls_of_calls_keep_their_names_apart():
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Scale", ["a"], ["k"], domain="own", factor=2.0),
                                                                helper.make_node("Scale", ["k"], ["b"], domain="own", factor=5.0)], OPSET)
    nodes = [helper.make_node("Twice", ["x"], ["k"], domain="own"), helper.make_node("Twice", ["k"], ["b"], domain="own"),
             helper.make_node("Add", ["b", "k"], ["y"])]
    np.testing.assert_array_equal(run(model(nodes, [scale(1.0), twice])), X * 110)


def test_a_branch_inside_a_function_reads_its_inputs():
    def branch(op, name):
        return helper.make_graph([helper.make_node(op, ["a"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0), helper.make_node("Constant", [], ["zero"], value_float=0.0),
             helper.make_node("Greater", ["s", "zero"], ["c"]), helper.make_node("If", ["c"], ["b"], then_branch=branch("Neg", "t"), else_branch=branch("Abs", "e"))]
    f = helper.make_function("own", "Turn", ["a"], ["b"], nodes, OPSET[:1])
    data = model([helper.make_node("Turn", ["x"], ["y"], domain="own")], [f])
    np.testing.assert_array_equal(run(data), -X)
    np.testing.assert_array_equal(run(data, -X), np.abs(X))


def test_an_omitted_input_and_an_output_that_is_an_input():
    f = helper.make_function("own", "Pick", ["a", "low"], ["a", "b"], [helper.make_node("Clip", ["a", "low"], ["b"])], OPSET[:1])
    data = model([helper.make_node("Pick", ["x"], ["p", "q"], domain="own"), helper.make_node("Add", ["p", "q"], ["y"])], [f])
    np.testing.assert_array_equal(run(data), X * 2)


def test_overloads_and_operators_of_the_same_name():
    relu = helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], OPSET[:1])
    other = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])], OPSET[:1])
    other.overload = "abs"
    plain = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], OPSET[:1])
    call = helper.make_node("F", ["h"], ["y"], domain="own")
    call.overload = "abs"
    np.testing.assert_array_equal(run(model([helper.make_node("Relu", ["x"], ["h"]), call], [relu, plain, other])), np.abs(X))


def test_recursion_and_explosion_end_in_an_error():
    again = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="own")], OPSET)
    with pytest.raises(Exception, match="own:F.*must not call itself"):
        run(model([helper.make_node("F", ["x"], ["y"], domain="own")], [again]))
    chain = [helper.make_function("own", f"F{i}", ["a"], ["b"], [helper.make_node(f"F{i + 1}", ["a"], ["c"], domain="own"),
                                                                 helper.make_node(f"F{i + 1}", ["c"], ["b"], domain="own")], OPSET) for i in range(40)]
    chain.append(helper.make_function("own", "F40", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], OPSET))
    with pytest.raises(Exception, match="more than 262144 nodes"):
        run(model([helper.make_node("F0", ["x"], ["y"], domain="own")], chain))


def test_wrong_calls():
    f = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Neg", ["c"], ["b"])], OPSET)
    with pytest.raises(Exception, match="own:F.*'c' is produced by no node"):
        run(model([helper.make_node("F", ["x"], ["y"], domain="own")], [f]))
    with pytest.raises(Exception, match="takes 1 inputs and gives 1 outputs; the node has 2 and 1"):
        run(model([helper.make_node("F", ["x", "x"], ["y"], domain="own")], [f]))
    with pytest.raises(Exception, match="function 'own:F' does not import"):
        run(model([helper.make_node("F", ["x"], ["y"], domain="own")],
                  [helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"], domain="far")], OPSET[:1])]))


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_and_constants(flat):
    dense = np.zeros((2, 3), np.float32)
    dense[0, 1], dense[1, 2] = 5, 7
    indices = np.array([1, 5], np.int64) if flat else np.array([[0, 1], [1, 2]], np.int64)
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.array([5, 7], np.float32), "w"), numpy_helper.from_array(indices, "i"), [2, 3])
    np.testing.assert_array_equal(run(model([helper.make_node("Add", ["x", "w"], ["y"])], [], OPSET[:1], sparse_initializer=[sparse])), X + dense)
    constant = helper.make_node("Constant", [], ["w"], sparse_value=sparse)
    np.testing.assert_array_equal(run(model([constant, helper.make_node("Add", ["x", "w"], ["y"])], [], OPSET[:1])), X + dense)


@pytest.mark.parametrize("indices, dims, says", [([1, 6], [2, 3], r"index 6 of value 1 is outside \[0, 6\)"), ([[0, 1], [2, 0]], [2, 3], "index 2 of value 1"),
                                                 ([1], [2, 3], "expected values"), ([1, 2], [1 << 20, 1 << 20], "larger than 2048 MiB")])
def test_bad_sparse_tensors(indices, dims, says):
    sparse = helper.make_sparse_tensor(numpy_helper.from_array(np.array([5, 7], np.float32), "w"), numpy_helper.from_array(np.array(indices, np.int64), "i"), dims)
    with pytest.raises(Exception, match=says):
        run(model([helper.make_node("Add", ["x", "w"], ["y"])], [], OPSET[:1], sparse_initializer=[sparse]))
