"""What the tests of com.microsoft share: models of one operator, and comparing engines on them."""
import numpy as np
import pytest

import ocior

onnx = pytest.importorskip("onnx", reason="the onnx package makes the models")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime gives the numbers")

random = np.random.default_rng(7)


def floats(*shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


def model(op, inputs, outputs, attributes, domain, constants=()):
    """A model of one node; the inputs whose numbers are in `constants` are initializers."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    results = [f"y{i}" if wanted else "" for i, wanted in enumerate(outputs)]
    node = onnx.helper.make_node(op, names, results, domain=domain, **attributes)
    infos = [onnx.helper.make_tensor_value_info(f"x{i}", onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
             for i, x in enumerate(inputs) if x is not None and i not in constants]
    fixed = [onnx.numpy_helper.from_array(inputs[i], f"x{i}") for i in constants if i < len(inputs) and inputs[i] is not None]
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_empty_tensor_value_info(r) for r in results if r], fixed)
    opsets = [onnx.helper.make_opsetid("", 21 if constants else 17)] + ([onnx.helper.make_opsetid(domain, 1)] if domain else [])
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10 if constants else 8).SerializeToString()


def run(engine, data, inputs, constants=()):
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    return engine.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)


def agree(got, want, tolerance=1e-5, checked=None):
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.shape == w.shape and g.dtype == w.dtype, f"output {i}: {g.dtype}{g.shape}, expected {w.dtype}{w.shape}"
        if checked is not None and i >= checked:
            continue
        limit = tolerance * max(1.0, np.max(np.abs(w), initial=0))
        assert np.max(np.abs(g.astype(np.float64) - w.astype(np.float64)), initial=0) <= limit, f"output {i}"


def compare(op, inputs, outputs=(True,), domain="com.microsoft", tolerance=1e-5, checked=None, constants=(), **attributes):
    """Both engines on the same inputs; `checked`: only so many outputs have values that are defined."""
    data = model(op, inputs, outputs, attributes, domain, constants)
    agree(run(ocior, data, inputs, constants), run(onnxruntime, data, inputs, constants), tolerance, checked)


def gives(op, inputs, want, outputs=(True,), tolerance=1e-5, constants=(), **attributes):
    """Ocior against numbers made here: for operators that ONNX Runtime has on other devices only."""
    agree(run(ocior, model(op, inputs, outputs, attributes, "com.microsoft", constants), inputs, constants), want, tolerance)


def refused(op, inputs, message, outputs=(True,), constants=(), **attributes):
    with pytest.raises(Exception, match=message):
        ocior.InferenceSession(model(op, inputs, outputs, attributes, "com.microsoft", constants), providers=["CPUExecutionProvider"])
