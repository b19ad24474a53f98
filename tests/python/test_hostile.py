"""Models that ask for too much end in an error that says what they asked for, at once and with flat memory."""

import resource
import time

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

import ocior  # noqa: E402

TERA = 1 << 38  # floats


def model(op, inputs, dtype=TensorProto.FLOAT, **attributes):
    """One node `hostile` that reads inputs {name: (dtype, rank)}."""
    graph = helper.make_graph([helper.make_node(op, list(inputs), ["y"], name="hostile", **attributes)], "g",
                              [helper.make_tensor_value_info(n, t, [f"{n}{i}" for i in range(rank)]) for n, (t, rank) in inputs.items()],
                              [helper.make_tensor_value_info("y", dtype, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def ints(*values):
    return np.array(values, np.int64)


F, I = TensorProto.FLOAT, TensorProto.INT64
CASES = {
    "a terabyte of zeros": (model("ConstantOfShape", {"s": (I, 1)}), {"s": ints(TERA)}, "hostile.*out of memory.* 1099511627776 bytes"),
    "a terabyte by Expand": (model("Expand", {"x": (F, 1), "s": (I, 1)}), {"x": np.ones(1, np.float32), "s": ints(1 << 20, 1 << 18)}, "hostile.*out of memory"),
    "a terabyte by Tile": (model("Tile", {"x": (F, 1), "s": (I, 1)}), {"x": np.ones(2, np.float32), "s": ints(1 << 37)}, "hostile.*out of memory"),
    "a terabyte by Range": (model("Range", {"a": (I, 0), "b": (I, 0), "d": (I, 0)}, I), {"a": np.array(0), "b": np.array(TERA), "d": np.array(1)}, "hostile.*out of memory"),
    "a terabyte by broadcasting": (model("Add", {"a": (F, 2), "b": (F, 1)}), {"a": np.ones((1 << 19, 1), np.float32), "b": np.ones(1 << 19, np.float32)}, "hostile.*out of memory"),
    "a shape past 63 bits": (model("ConstantOfShape", {"s": (I, 1)}), {"s": ints(1 << 40, 1 << 40, 1 << 40)}, "hostile.*more elements than 63 bits can count"),
    "an expansion whose bytes pass 64 bits": (model("Expand", {"x": (F, 1), "s": (I, 1)}), {"x": np.ones(1, np.float32), "s": ints(1 << 31, 1 << 31)}, "hostile.*larger than any memory"),
    "an expansion of the largest size": (model("Expand", {"x": (F, 1), "s": (I, 1)}), {"x": np.ones(1, np.float32), "s": ints(1 << 29, 1 << 29)}, "hostile.*out of memory"),
    "a padding past 63 bits": (model("Pad", {"x": (F, 1), "p": (I, 1)}), {"x": np.ones(2, np.float32), "p": ints(1 << 62, 1 << 62)}, "larger than any memory"),
    "a division by zero": (model("Div", {"a": (I, 1), "b": (I, 1)}, I), {"a": ints(1, 2), "b": ints(1, 0)}, "hostile.*division by zero: element 1"),
    "a remainder by zero": (model("Mod", {"a": (I, 1), "b": (I, 1)}, I), {"a": ints(1, 2), "b": ints(1, 0)}, "hostile.*division by zero: element 1"),
    "an index out of range": (model("Gather", {"x": (F, 1), "i": (I, 1)}), {"x": np.ones(3, np.float32), "i": ints(0, 3)}, "hostile.*index 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_at_once(name):
    data, feeds, says = CASES[name]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    session = ocior.InferenceSession(data)
    with pytest.raises(RuntimeError, match=says):
        session.run(None, feeds)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
    assert time.monotonic() - start < 10                                           # generous: the machine may be busy


@pytest.mark.parametrize("op, inputs, says", [("Max", ["a", "", "a"], "input 1 is omitted"), ("Sum", ["", "a"], "input 0 is omitted"), ("Conv", ["a", ""], "at least|inputs|omitted"),
                                              ("MatMul", ["", "a"], "input 0 is omitted"), ("SequenceInsert", ["", "a"], "input 0 is missing"),
                                              ("SequenceLength", ["", "a"], "inputs|missing"), ("LSTM", ["a", "", "a"], "input 1 is omitted")])
def test_an_omitted_input(op, inputs, says):
    graph = helper.make_graph([helper.make_node(op, inputs, ["y"], name="hostile")], "g", [helper.make_tensor_value_info("a", F, [2, 3])],
                              [helper.make_tensor_value_info("y", F, None)])
    with pytest.raises(RuntimeError, match=says):
        ocior.InferenceSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())


@pytest.mark.parametrize("shape", [[], [2, 3], [2]])
def test_a_count_of_a_wrong_shape(shape):
    graph = helper.make_graph([helper.make_node("TopK", ["x", "k"], ["v", "i"], name="hostile")], "g",
                              [helper.make_tensor_value_info("x", F, ["n"]), helper.make_tensor_value_info("k", I, None)],
                              [helper.make_tensor_value_info("v", F, None), helper.make_tensor_value_info("i", I, None)])
    session = ocior.InferenceSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())
    with pytest.raises(RuntimeError, match=r"K has shape .*expected \[1\]"):
        session.run(None, {"x": np.ones(5, np.float32), "k": np.ones(shape, np.int64)})


def test_the_lowest_integer_by_minus_one():
    data = model("Div", {"a": (I, 1), "b": (I, 1)}, I)
    (y,) = ocior.InferenceSession(data).run(None, {"a": ints(-2**63), "b": ints(-1)})
    assert y[0] == -2**63  # as NumPy and hardware that wraps


def field(number, payload):
    out, key, size = b"", number << 3 | 2, len(payload)
    for value in (key, size):
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        out += bytes([value])
    return out + payload


def test_ten_thousand_nested_graphs():
    graph = b""
    for _ in range(10000):
        attribute = field(1, b"then_branch") + field(6, graph) + bytes([0xA0, 1, 5])
        graph = field(1, field(4, b"If") + field(5, attribute))
    with pytest.raises(RuntimeError, match="nested more than 64"):
        ocior.InferenceSession(bytes([8, 10]) + field(7, graph) + field(8, bytes([16, 20])))


@pytest.mark.parametrize("op, inputs, feeds, says", [
    ("Reshape", {"x": (F, 1), "s": (I, 1)}, {"x": np.zeros(0, np.float32), "s": ints()}, "hostile.*0 elements"),
    ("Reshape", {"x": (F, 3), "s": (I, 1)}, {"x": np.ones((4, 1, 8), np.float32), "s": ints(4)}, "hostile.*32 elements"),
    ("Reshape", {"x": (F, 1), "s": (I, 1)}, {"x": np.ones(1, np.float32), "s": ints(-70)}, "hostile.*is -70"),
    ("Squeeze", {"x": (F, 1), "a": (I, 1)}, {"x": np.zeros(0, np.float32), "a": ints(0)}, "hostile.*dimension 0"),
    ("AffineGrid", {"t": (F, 3), "s": (I, 3)}, {"t": np.ones((1, 2, 3), np.float32), "s": np.zeros((0, 1, 1), np.int64)}, "size"),
])
def test_values_that_only_a_run_knows(op, inputs, feeds, says):
    with pytest.raises(RuntimeError, match=says):
        ocior.InferenceSession(model(op, inputs)).run(None, feeds)


def test_strings_are_split_in_rank_0():
    graph = helper.make_graph([helper.make_node("StringSplit", ["x"], ["y", "n"], delimiter=" ")], "g",
                              [helper.make_tensor_value_info("x", TensorProto.STRING, [])],
                              [helper.make_tensor_value_info("y", TensorProto.STRING, None), helper.make_tensor_value_info("n", I, None)])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    words, count = ocior.InferenceSession(data).run(None, {"x": np.array("a b c", object)})
    assert list(words) == ["a", "b", "c"] and count == 3


def doubled(**config):
    """y = x + x, z = the sum of y, of floats [n]."""
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"], name="hostile"),
                               helper.make_node("Mul", ["y", "y"], ["q"], name="square"),
                               helper.make_node("CumSum", ["q", "axis"], ["z"], name="sum")], "g",
                              [helper.make_tensor_value_info("x", F, ["n"])], [helper.make_tensor_value_info("z", F, ["n"])],
                              [helper.make_tensor("axis", I, [], [0])])
    options = ocior.SessionOptions()
    for key, value in config.items():
        options.add_session_config_entry(f"ocior.{key}", value)
    return ocior.InferenceSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString(), options)


def test_memory_limit_of_runs():
    session = doubled(memory_limit=str(32 << 20))
    small, large = np.ones(1 << 20, np.float32), np.ones(1 << 22, np.float32)
    assert session.run(None, {"x": small})[0][-1] == 4 << 20
    for _ in range(3):  # nothing of a refused run stays charged
        with pytest.raises(RuntimeError, match=r"node '\w+' .*out of memory: \d+ bytes .*; the session holds \d+ bytes and its option ocior.memory_limit is 33554432"):
            session.run(None, {"x": large})
    kept = [session.run(None, {"x": small})[0]]
    with pytest.raises(RuntimeError, match="sum.*ocior.memory_limit is 33554432"):
        while len(kept) < 100:  # outputs that the caller holds are the session's memory
            kept += session.run(None, {"x": small})
    assert 2 < len(kept) < 9
    kept.clear()
    session.run(None, {"x": small})


def test_memory_limit_of_a_loop():
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("RandomUniform", [], ["r"], shape=[1 << 18])], "body",
                             [helper.make_tensor_value_info("i", I, []), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
                             [helper.make_tensor_value_info("c_out", TensorProto.BOOL, []), helper.make_tensor_value_info("r", F, [1 << 18])])
    graph = helper.make_graph([helper.make_node("Loop", ["", "go"], ["rs"], name="hostile", body=body)], "g",
                              [helper.make_tensor_value_info("go", TensorProto.BOOL, [])], [helper.make_tensor_value_info("rs", F, None)])
    options = ocior.SessionOptions()
    options.add_session_config_entry("ocior.memory_limit", str(64 << 20))
    session = ocior.InferenceSession(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString(), options)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="hostile.*out of memory.*ocior.memory_limit is 67108864"):
            session.run(None, {"go": np.array(True)})


def test_memory_limit_of_weights():
    weight = np.random.default_rng(1).random((1024, 1024), dtype=np.float32)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="hostile")], "g", [helper.make_tensor_value_info("x", F, ["n", 1024])],
                              [helper.make_tensor_value_info("y", F, ["n", 1024])], [onnx.numpy_helper.from_array(weight, "w")])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    options = ocior.SessionOptions()
    options.add_session_config_entry("ocior.memory_limit", str(1 << 20))
    with pytest.raises(RuntimeError, match="out of memory: 4[0-9]{6} bytes for the model's weights.*ocior.memory_limit is 1048576"):
        ocior.InferenceSession(data, options)
    ocior.InferenceSession(data)


@pytest.mark.parametrize("value", ["0", "-1", "lots", "1e9", "99999999999999999999"])
def test_memory_limit_of_no_sense(value):
    with pytest.raises(RuntimeError, match="ocior.memory_limit"):
        doubled(memory_limit=value)
