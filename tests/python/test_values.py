"""What enters and leaves a run: every element type and every kind of value."""
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ocior


def save(graph, opset=24):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=12).SerializeToString()


def session(graph, opset=24):
    return ocior.InferenceSession(save(graph, opset))


def same(elem_type, shape=None, opset=26):
    """y = x."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [helper.make_tensor_value_info("x", elem_type, shape)],
                              [helper.make_tensor_value_info("y", elem_type, shape)])
    return session(graph, opset)


SMALL = {
    "bfloat16": (TensorProto.BFLOAT16, "bfloat16"), "float8_e4m3fn": (TensorProto.FLOAT8E4M3FN, "float8e4m3fn"),
    "float8_e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, "float8e4m3fnuz"), "float8_e5m2": (TensorProto.FLOAT8E5M2, "float8e5m2"),
    "float8_e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, "float8e5m2fnuz"), "float8_e8m0fnu": (TensorProto.FLOAT8E8M0, "float8e8m0"),
    "float4_e2m1fn": (TensorProto.FLOAT4E2M1, "float4e2m1"), "int4": (TensorProto.INT4, "int4"), "uint4": (TensorProto.UINT4, "uint4"),
    "int2": (TensorProto.INT2, "int2"), "uint2": (TensorProto.UINT2, "uint2"),
}


@pytest.mark.parametrize("name", SMALL)
def test_types_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    elem_type, text = SMALL[name]
    dtype = getattr(ml_dtypes, name)
    s = same(elem_type)
    assert s.get_inputs()[0].type == s.get_outputs()[0].type == f"tensor({text})"
    values = np.array([1, 2, 4, 1, 2, 1, 4]) if name == "float8_e8m0fnu" else np.array([0, 1, -1, -2, 0, 1, -1])
    if name.startswith("u"):
        values = np.array([0, 1, 2, 3, 2, 1, 0])
    for x in (values.astype(dtype), values.astype(dtype)[:0], values.astype(dtype)[2].reshape(()), values.astype(dtype)[::2],
              values.astype(dtype)[:6].reshape(2, 3).T):
        (y,) = s.run(None, {"x": x})
        assert y.dtype == dtype and y.shape == x.shape
        np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))


def test_sub_byte_elements_keep_their_order():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name, elem_type, values in (("int4", TensorProto.INT4, np.arange(-8, 8)), ("uint4", TensorProto.UINT4, np.arange(16)),
                                    ("int2", TensorProto.INT2, np.arange(-2, 2)), ("uint2", TensorProto.UINT2, np.arange(4))):
        graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)], "g", [helper.make_tensor_value_info("x", elem_type, ["n"])],
                                  [helper.make_tensor_value_info("y", TensorProto.INT32, ["n"])])
        (y,) = session(graph, 26).run(None, {"x": values.astype(getattr(ml_dtypes, name))})
        np.testing.assert_array_equal(y, values)


def test_without_ml_dtypes_the_error_names_it():
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n"])])
    code = ("import sys; sys.modules['ml_dtypes'] = None\nimport numpy as np, ocior\n"
            "s = ocior.InferenceSession(bytes.fromhex(sys.argv[1]))\n"
            "try: s.run(None, {'x': np.ones(2, np.float32)})\nexcept ocior.NotImplemented as e: print(e)")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code, save(graph).hex()], env=environment, capture_output=True, text=True)
    assert "install ml_dtypes" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("x", [
    np.array([["a", "bc"], ["", "ü\0z"]], object), np.array([["a", "bc"], ["", "xyz"]]), np.array(["a", None and "", "b"][::2], object), np.array("one", object)])
def test_strings(x):
    (y,) = same(TensorProto.STRING).run(None, {"x": x})
    assert y.dtype == object and y.shape == x.shape and y.tolist() == x.tolist()


def test_bytes_are_strings():
    (y,) = same(TensorProto.STRING).run(None, {"x": np.array([b"a", b"b\0c"], object)})
    assert y.tolist() == ["a", "b\0c"]
    (y,) = same(TensorProto.STRING).run(None, {"x": np.array([b"a", b"bc"])})
    assert y.tolist() == ["a", "bc"]
    with pytest.raises(ocior.InvalidArgument, match="strings only"):
        same(TensorProto.STRING).run(None, {"x": np.array([1, "a"], object)})


def tensor(name, elem_type=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, elem_type, shape)


def sequence_proto(elem_type=TensorProto.FLOAT):
    return helper.make_sequence_type_proto(helper.make_tensor_type_proto(elem_type, None))


def sequence(name, elem_type=TensorProto.FLOAT):
    return helper.make_value_info(name, sequence_proto(elem_type))


def optional(name, proto):
    return helper.make_value_info(name, helper.make_optional_type_proto(proto))


def graph_of(nodes, inputs, outputs, initializers=()):
    return helper.make_graph(nodes, "g", inputs, outputs, list(initializers))


A, B = np.array([1, 2, 3], np.float32), np.array([[4, 5]], np.float32)


def test_sequences_in_and_out():
    s = session(graph_of([helper.make_node("SequenceInsert", ["s", "x"], ["t"]), helper.make_node("Neg", ["x"], ["y"])],
                         [sequence("s"), tensor("x")], [sequence("t"), tensor("y")]))
    assert [i.type for i in s.get_inputs()] == ["seq(tensor(float))", "tensor(float)"]
    assert [o.type for o in s.get_outputs()] == ["seq(tensor(float))", "tensor(float)"]
    for given in ([], [A], (A, B), [B[:, ::-1], A.tolist() and np.array(7, np.float32)]):
        t, y = s.run(None, {"s": given, "x": A})
        assert isinstance(t, list) and len(t) == len(given) + 1
        for got, want in zip(t, [*given, A], strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(y, -A)


def test_results_share_nothing_with_feeds():
    s = session(graph_of([helper.make_node("SequenceInsert", ["s", "x"], ["t"])], [sequence("s"), tensor("x")], [sequence("t")]))
    a, x = A.copy(), A.copy()
    (t,) = s.run(None, {"s": [a], "x": x})
    a[:] = x[:] = 0
    np.testing.assert_array_equal(t, [A, A])
    (again,) = s.run(None, {"s": t, "x": x})
    again[0][:] = -1
    np.testing.assert_array_equal(t[0], A)


def test_a_sequence_that_only_passes_through():
    for nodes, out in (([], "s"), ([helper.make_node("Identity", ["s"], ["t"])], "t")):
        s = session(graph_of(nodes, [sequence("s", TensorProto.STRING)], [sequence(out, TensorProto.STRING)]))
        (got,) = s.run(None, {"s": [np.array(["a", "b"], object), np.array("c", object)]})
        assert [g.tolist() for g in got] == [["a", "b"], "c"]


@pytest.mark.parametrize("feed, text", [
    (A, r"pass a list, as it is seq\(tensor\(float\)\)"), ([A.astype(np.int64)], r"tensor\(int64\) where tensor\(float\) is expected"),
    ([A, [A]], None), (None, "pass a list"), ({"a": A}, "pass a list"),
])
def test_wrong_sequences(feed, text):
    s = session(graph_of([helper.make_node("SequenceLength", ["s"], ["n"])], [sequence("s")], [tensor("n", TensorProto.INT64)]))
    if text is None:
        assert s.run(None, {"s": feed})[0] == 2  # a list inside a list of tensors is an array
        return
    with pytest.raises(ocior.InvalidArgument, match=text):
        s.run(None, {"s": feed})


def test_a_tensor_operator_refuses_a_sequence():
    with pytest.raises(ocior.InvalidGraph, match=r"seq\(float.*expected a tensor"):
        session(graph_of([helper.make_node("Neg", ["s"], ["y"], name="n1")], [sequence("s")], [tensor("y")]))
    with pytest.raises(ocior.InvalidGraph, match="the model declares"):
        session(graph_of([helper.make_node("Identity", ["s"], ["y"])], [sequence("s")], [tensor("y")]))


@pytest.mark.parametrize("proto, value, text", [
    (helper.make_tensor_type_proto(TensorProto.FLOAT, None), A, "optional(tensor(float))"), (sequence_proto(), [A, B], "optional(seq(tensor(float)))")])
def test_optionals_in_and_out(proto, value, text):
    s = session(graph_of([helper.make_node("Identity", ["o"], ["p"]), helper.make_node("OptionalHasElement", ["o"], ["has"])], [optional("o", proto)],
                         [optional("p", proto), tensor("has", TensorProto.BOOL)]))
    assert s.get_inputs()[0].type == s.get_outputs()[0].type == text
    p, has = s.run(None, {"o": value})
    assert has and (len(p) == 2 if isinstance(value, list) else np.array_equal(p, value))
    p, has = s.run(None, {"o": None})
    assert not has and p is None


def test_an_empty_optional_has_nothing_to_get():
    s = session(graph_of([helper.make_node("OptionalGetElement", ["o"], ["x"], name="get")],
                         [optional("o", helper.make_tensor_type_proto(TensorProto.FLOAT, None))], [tensor("x")]))
    np.testing.assert_array_equal(s.run(None, {"o": A})[0], A)
    with pytest.raises(RuntimeError, match="get.*the optional is empty"):
        s.run(None, {"o": None})


def test_maps_pass_through():
    for key, value, m in ((TensorProto.INT64, TensorProto.FLOAT, {3: 0.5, -1: 2.0}), (TensorProto.STRING, TensorProto.INT64, {"a": 1, "b": -7, "": 3})):
        info = helper.make_value_info("m", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, [])))
        s = session(graph_of([], [info], [info]))
        assert s.get_inputs()[0].type == ("map(int64,tensor(float))" if key == TensorProto.INT64 else "map(string,tensor(int64))")
        assert s.run(None, {"m": m}) == [m]
        with pytest.raises(ocior.InvalidArgument, match="pass a dict"):
            s.run(None, {"m": [1]})


@pytest.mark.parametrize("op, inputs, count, good, bad", [
    ("SequenceAt", ["s", "p"], 1, [0, 1, -2], [2, -3, 2**62, -2**63]), ("SequenceErase", ["s", "p"], 1, [0, -1], [2, -3]),
    ("SequenceInsert", ["s", "x", "p"], 1, [0, 2, -2], [3, -3, -2**63])])
def test_positions(op, inputs, count, good, bad):
    out = tensor("y") if op == "SequenceAt" else sequence("y")
    infos = {"s": sequence("s"), "x": tensor("x"), "p": tensor("p", TensorProto.INT64)}
    s = session(graph_of([helper.make_node(op, inputs, ["y"], name="here")], [infos[i] for i in inputs], [out]))
    feeds = {"s": [A, B], "x": A}
    for p in good:
        s.run(None, {k: v for k, v in {**feeds, "p": np.array(p)}.items() if k in inputs})
    for p in [*bad, [0, 1]]:
        with pytest.raises(RuntimeError, match="here"):
            s.run(None, {k: v for k, v in {**feeds, "p": np.array(p)}.items() if k in inputs})


@pytest.mark.parametrize("split, text", [(0, "positive"), (-1, "positive"), ([1, 1], "add up to 3"), ([2, 2], "add up to 3"), ([-1, 4], "add up to 3"),
                                         ([2**62, 2**62], "add up to 3"), ([[3]], "add up to 3")])
def test_wrong_splits(split, text):
    s = session(graph_of([helper.make_node("SplitToSequence", ["x", "split"], ["s"])], [tensor("x"), tensor("split", TensorProto.INT64)], [sequence("s")]))
    with pytest.raises(RuntimeError, match=text):
        s.run(None, {"x": A, "split": np.array(split)})
    assert [p.tolist() for p in s.run(None, {"x": A, "split": np.array(2)})[0]] == [[1, 2], [3]]


def test_sequences_that_cannot_be_concatenated():
    for attributes in ({"axis": 0}, {"axis": 0, "new_axis": 1}, {"axis": 5}):
        s = session(graph_of([helper.make_node("ConcatFromSequence", ["s"], ["y"], **attributes)], [sequence("s")], [tensor("y")]))
        for feed in ([], [A, B]):
            with pytest.raises(RuntimeError, match="ConcatFromSequence"):
                s.run(None, {"s": feed})
    s = session(graph_of([helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=-1)], [sequence("s")], [tensor("y")]))
    np.testing.assert_array_equal(s.run(None, {"s": [A, A[:0], A]})[0], [1, 2, 3, 1, 2, 3])
