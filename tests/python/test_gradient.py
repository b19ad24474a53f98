"""Gradient (ai.onnx.preview.training) against finite differences in double, and what it refuses."""
import numpy as np
import pytest
from onnx import TensorProto, helper

import ocior

PREVIEW = "ai.onnx.preview.training"
make = helper.make_node


def model(nodes, inputs, outputs, opset=21):
    infos = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [f"{n}{i}" for i in range(rank)]) for n, rank in inputs.items()]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_empty_tensor_value_info(n) for n in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(PREVIEW, 1)],
                             ir_version=10).SerializeToString()


def gradient(inputs, outputs, xs, y, zs=None, name="d"):
    more = {"zs": zs} if zs else {}
    return make("Gradient", inputs, outputs, name=name, domain=PREVIEW, xs=xs, y=y, **more)


def check(nodes, values, xs=None, opset=21, tolerance=1e-6):
    """The gradient of the sum of "y" by each of `xs` against central differences."""
    values = {k: np.asarray(v, np.float64) for k, v in values.items()}
    xs = xs or list(values)
    ranks = {k: v.ndim for k, v in values.items()}
    forward = ocior.InferenceSession(model(nodes, ranks, ["y"], opset))
    both = ocior.InferenceSession(model([*nodes, gradient(xs, [f"d_{x}" for x in xs], xs, "y")], ranks, [f"d_{x}" for x in xs], opset))
    for x, got in zip(xs, both.run(None, values)):
        assert got.shape == values[x].shape
        want, step = np.zeros_like(values[x]), 1e-6
        for at in np.ndindex(values[x].shape):
            ends = []
            for sign in (1, -1):
                moved = values[x].copy()
                moved[at] += sign * step
                ends.append(forward.run(None, {**values, x: moved})[0].sum())
            want[at] = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def some(*shape, positive=False):
    values = np.random.default_rng(3).normal(size=shape)
    return np.abs(values) + 0.5 if positive else values


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("a, b", [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (4, 1, 3)), ((), (2, 2)), ((1, 1), (1,))])
def test_binary(op, a, b):
    check([make(op, ["a", "b"], ["h"]), make("Mul", ["h", "h"], ["y"])], {"a": some(*a), "b": some(*b, positive=True)})


@pytest.mark.parametrize("op", ["Neg", "Relu", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Identity"])
def test_unary(op):
    check([make(op, ["a"], ["h"]), make("Mul", ["h", "h"], ["y"])], {"a": some(2, 3, positive=op in ("Log", "Sqrt"))})


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.5, 0.5])
def test_power(exponent):
    nodes = [make("Constant", [], ["e"], value_float=exponent), make("Cast", ["e"], ["f"], to=TensorProto.DOUBLE),
             make("Pow", ["a", "f"], ["y"])]
    check(nodes, {"a": some(2, 3, positive=True)})


@pytest.mark.parametrize("a, b", [((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((2, 1, 2, 3), (4, 3, 1))])
def test_matmul(a, b):
    check([make("MatMul", ["a", "b"], ["h"]), make("Mul", ["h", "h"], ["y"])], {"a": some(*a), "b": some(*b)})


@pytest.mark.parametrize("ta", [0, 1])
@pytest.mark.parametrize("tb", [0, 1])
@pytest.mark.parametrize("c", [(), (4,), (2, 1), (2, 4)])
def test_gemm(ta, tb, c):
    node = make("Gemm", ["a", "b", "c"], ["h"], transA=ta, transB=tb, alpha=0.5, beta=-2.0)
    check([node, make("Mul", ["h", "h"], ["y"])], {"a": some(*[(2, 3), (3, 2)][ta]), "b": some(*[(3, 4), (4, 3)][tb]), "c": some(*c)})


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [None, [1], [0, -1]])
@pytest.mark.parametrize("opset", [11, 21])
def test_reductions(op, keep, axes, opset):
    nodes, inputs, attributes = [make("Mul", ["a", "a"], ["s"])], ["s"], {"keepdims": keep}
    if axes and opset == 11:
        attributes["axes"] = axes
    elif axes:
        nodes.append(make("Constant", [], ["axes"], value_ints=axes))
        inputs.append("axes")
    nodes += [make(op, inputs, ["h"], **attributes), make("Mul", ["h", "h"], ["y"])]
    check(nodes, {"a": some(2, 3, 4)}, opset=opset)


def test_shapes():
    nodes = [make("Transpose", ["a"], ["t"], perm=[2, 0, 1]), make("Constant", [], ["s"], value_ints=[4, -1]),
             make("Reshape", ["t", "s"], ["r"]), make("Transpose", ["r"], ["q"]), make("MatMul", ["r", "q"], ["y"])]
    check(nodes, {"a": some(2, 3, 4)})


def test_a_small_network():
    nodes = [make("Gemm", ["x", "w", "b"], ["h"]), make("Tanh", ["h"], ["t"]), make("MatMul", ["t", "v"], ["o"]),
             make("Sub", ["o", "label"], ["e"]), make("Mul", ["e", "e"], ["q"]), make("ReduceMean", ["q"], ["y"], keepdims=0)]
    values = {"x": some(5, 3), "w": some(3, 4), "b": some(4), "v": some(4, 2), "label": some(5, 2)}
    check(nodes, values, xs=["w", "b", "v"])


def test_at_other_values_and_by_an_intermediate():
    nodes = [make("Mul", ["a", "b"], ["h"]), make("Mul", ["h", "h"], ["k"]), make("Add", ["k", "b"], ["y"]),
             gradient(["h1", "b"], ["dh", "db"], ["h", "b"], "y")]
    run = ocior.InferenceSession(model(nodes, {"a": 1, "b": 1, "h1": 1}, ["y", "dh", "db"]))
    a, b, h1 = np.array([2.0]), np.array([3.0]), np.array([10.0])
    y, dh, db = run.run(None, {"a": a, "b": b, "h1": h1})
    assert y == 39 and dh == 20 and db == 1  # d(h^2 + b) / dh at h = 10


def test_zs_are_held():
    nodes = [make("Mul", ["w", "x"], ["y"]), gradient(["w", "other"], ["dw"], ["w"], "y", zs=["x"])]
    run = ocior.InferenceSession(model(nodes, {"w": 1, "x": 1, "other": 1}, ["dw"]))
    assert run.run(None, {"w": [2.0], "x": [3.0], "other": [7.0]})[0] == [7.0]


def test_second_order():
    nodes = [make("Mul", ["a", "a"], ["s"]), make("Mul", ["s", "a"], ["y"]), gradient(["a"], ["d1"], ["a"], "y", name="first"),
             gradient(["a"], ["d2"], ["a"], "d1", name="second")]
    run = ocior.InferenceSession(model(nodes, {"a": 1}, ["d1", "d2"]))
    d1, d2 = run.run(None, {"a": np.array([2.0, -3.0])})
    np.testing.assert_allclose(d1, [12, 27])
    np.testing.assert_allclose(d2, [12, -18])


def test_second_order_of_a_matrix_product():
    nodes = [make("MatMul", ["a", "b"], ["h"]), make("Mul", ["h", "h"], ["k"]), gradient(["a", "b"], ["da"], ["a", "b"], "k", name="first"),
             make("Identity", ["da"], ["y"])]
    check(nodes, {"a": some(2, 3), "b": some(3, 2)})


def test_no_dependence_is_zero_and_outputs_may_be_left_out():
    nodes = [make("Exp", ["a"], ["y"]), gradient(["a", "b"], ["", "db"], ["a", "b"], "y")]
    run = ocior.InferenceSession(model(nodes, {"a": 1, "b": 2}, ["y", "db"]))
    np.testing.assert_array_equal(run.run(None, {"a": some(3), "b": some(2, 2)})[1], np.zeros((2, 2)))


@pytest.mark.parametrize("nodes, message", [
    ([make("Erf", ["a"], ["y"], name="e"), gradient(["a"], ["d"], ["a"], "y")], "cannot differentiate node 'e' .Erf."),
    ([make("Pow", ["a", "a"], ["y"]), gradient(["a"], ["d"], ["a"], "y")], "exponent"),
    ([make("Exp", ["a"], ["y"]), gradient(["a"], ["d"], ["a"], "nothing")], "no value 'nothing'"),
    ([make("Exp", ["a"], ["y"]), gradient(["a", "a"], ["d"], ["a"], "y")], "2 inputs"),
    ([make("Exp", ["a"], ["y"]), gradient(["a"], ["d", "e"], ["a"], "y")], "2 outputs"),
    ([make("Exp", ["a"], ["y"]), make("Gradient", ["a"], ["d"], domain=PREVIEW, xs=["a"])], "required"),
    ([make("Exp", ["a"], ["y"]), make("Gradient", ["a"], ["d"], domain=PREVIEW, xs=["a"], y="y", q=1)], "unknown attribute 'q'"),
    ([make("Exp", ["a"], ["y"]), make("Gradient", ["a"], ["d"], domain=PREVIEW, xs="a", y="y")], "list of strings"),
    ([make("Add", ["a", "y"], ["k"]), make("Exp", ["k"], ["y"]), gradient(["a"], ["d"], ["a"], "y")], "itself|cycle"),
    ([gradient(["a"], ["d"], ["a"], "d")], "must stand before"),
])
def test_refusals(nodes, message):
    with pytest.raises(Exception, match=message):
        ocior.InferenceSession(model(nodes, {"a": 1}, ["d"]))


def test_gradients_of_gradients_do_not_grow_without_end():
    nodes = [make("Mul", ["a", "a"], ["d0"])]
    for _ in range(5):
        nodes.append(make("Mul", [nodes[-1].output[0], "a"], [f"p{len(nodes)}"]))
    last = nodes[-1].output[0]
    for i in range(60):
        nodes.append(gradient(["a"], [f"g{i}"], ["a"], last, name=f"n{i}"))
        nodes.append(make("Mul", [f"g{i}", last], [f"q{i}"]))
        last = f"q{i}"
    with pytest.raises(Exception, match="more than"):
        ocior.InferenceSession(model(nodes, {"a": 1}, [last]))


def test_inside_a_function():
    body = [make("Mul", ["x", "x"], ["s"]), make("Mul", ["s", "x"], ["c"]), gradient(["x"], ["dx"], ["x"], "c")]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(PREVIEW, 1), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Slope", ["x"], ["dx"], body, imports[:2])
    nodes = [make("Slope", ["a"], ["p"], domain="own"), make("Slope", ["b"], ["q"], domain="own")]
    infos = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [2]) for n in "abpq"]
    graph = helper.make_graph(nodes, "g", infos[:2], infos[2:])
    made = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=10).SerializeToString()
    p, q = ocior.InferenceSession(made).run(None, {"a": np.array([1.0, 2.0]), "b": np.array([3.0, -1.0])})
    np.testing.assert_allclose(p, [3, 12])
    np.testing.assert_allclose(q, [27, 3])
