"""RNN, GRU and LSTM against ONNX Runtime: directions, optional inputs, clipping and activations."""
import itertools

import numpy as np
import pytest

import ocior

onnx = pytest.importorskip("onnx", reason="the onnx package makes the models")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime gives the numbers")

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
random = np.random.default_rng(3)


def floats(*shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


def compare(op, inputs, weights_are_constant=False, **attributes):
    inputs = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    names = [f"x{i}" if f"x{i}" in inputs else "" for i in range(8 if op == "LSTM" else 6)]
    results = ["y", "h", "c"][:3 if op == "LSTM" else 2]
    constants = {k: inputs.pop(k) for k in ("x1", "x2")} if weights_are_constant else {}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, names, results, hidden_size=HIDDEN, **attributes)], "g",
        [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for k, x in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(r) for r in results],
        [onnx.numpy_helper.from_array(x, k) for k, x in constants.items()])
    data = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8).SerializeToString()
    want = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)
    got = ocior.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and np.max(np.abs(g - w)) <= 1e-5 * max(1, np.max(np.abs(w)))


def operands(op, directions, bias=True, lengths=False, states=False, peepholes=False):
    gates = GATES[op]
    state = lambda: floats(directions, BATCH, HIDDEN) if states else None
    out = [floats(STEPS, BATCH, INPUT), floats(directions, gates * HIDDEN, INPUT), floats(directions, gates * HIDDEN, HIDDEN),
           floats(directions, 2 * gates * HIDDEN) if bias else None, np.array([5, 2, 1], np.int32) if lengths else None, state()]
    return out + ([state(), floats(directions, 3 * HIDDEN) if peepholes else None] if op == "LSTM" else [])


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_inputs_and_attributes(op, direction):
    directions = 2 if direction == "bidirectional" else 1
    forms = [{}, {"clip": 0.3}] + {"RNN": [], "GRU": [{"linear_before_reset": 1}], "LSTM": [{"input_forget": 1}]}[op]
    for bias, lengths, states, peepholes in itertools.product((False, True), repeat=4):
        for form in forms:
            compare(op, operands(op, directions, bias, lengths, states, peepholes), bias, direction=direction, **form)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("name", ["Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign"])
def test_activations(op, name):
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
    compare(op, operands(op, 1), activations=[name] * count)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("name", ["Affine", "LeakyRelu", "ScaledTanh", "HardSigmoid", "Elu", "ThresholdedRelu"])
def test_activation_parameters(op, name):
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op] * 2
    compare(op, operands(op, 2), direction="bidirectional", activations=[name] * count,
            activation_alpha=[0.3, 0.2, 0.4, 0.1, 0.3, 0.2][:count], activation_beta=[0.1, 0.4, 0.2, 0.3, 0.1, 0.2][:count])
