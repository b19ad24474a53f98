"""Writes nn_golden.json: neural-network operators as the onnx package's reference evaluator computes them, on inputs that a formula gives.

Run with a Python that has onnx and numpy; src/ops/nn/golden_test.cpp reads the result.
"""

import json
import math
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def wave(shape, phase):
    """Element i is sin(0.7 * i + phase): reproducible in any language."""
    count = math.prod(shape)
    return np.sin(0.7 * np.arange(count, dtype=np.float64) + phase).astype(np.float32).reshape(shape)


def make_input(spec):
    """spec: None, {"shape", "phase"} for floats, {"shape", "above"} for bools (wave > above), {"shape", "ints"} for int64."""
    if spec is None:
        return None
    if "ints" in spec:
        return np.array(spec["ints"], dtype=np.int64).reshape(spec["shape"])
    if "above" in spec:
        return wave(spec["shape"], 0.3) > spec["above"]
    values = wave(spec["shape"], spec["phase"])
    return values * values + np.float32(0.1) if spec.get("positive") else values


def f(*shape, phase=0.0):
    return {"shape": list(shape), "phase": phase}


def evaluate(op, opset, attributes, specs, outputs):
    arrays = [make_input(s) for s in specs]
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attributes)
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, arrays) if n]
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    model = helper.make_model(helper.make_graph([node], op, infos, results), opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, {n: a for n, a in zip(names, arrays) if n})


Q, K, V = f(2, 4, 3, 4), f(2, 2, 5, 4, phase=1.0), f(2, 2, 5, 3, phase=2.0)
Q3, K3, V3 = f(2, 3, 16), f(2, 5, 8, phase=1.0), f(2, 5, 6, phase=2.0)
PAST_K, PAST_V = f(2, 2, 2, 4, phase=3.0), f(2, 2, 2, 3, phase=4.0)
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}

CASES = [
    ("Attention", 23, {}, [Q, K, V], 1),
    ("Attention", 23, HEADS, [Q3, K3, V3], 1),
    ("Attention", 23, {"is_causal": 1}, [Q, K, V], 1),
    ("Attention", 23, {"is_causal": 1}, [Q, K, V, None, PAST_K, PAST_V], 3),
    ("Attention", 23, HEADS, [Q3, K3, V3, f(3, 7, phase=5.0), PAST_K, PAST_V], 3),
    ("Attention", 23, {"scale": 0.3}, [Q, K, V, {"shape": [2, 1, 3, 5], "above": 0.2}], 1),
    ("Attention", 23, {"is_causal": 1}, [Q, K, V, {"shape": [3, 5], "above": -0.5}], 1),
    ("Attention", 23, {}, [Q, K, V, {"shape": [2, 4, 3, 5], "above": 2.0}], 1),
    # The evaluator caps the scores of mode 0 too, against the specification: no cap there.
    *[("Attention", 23, {"softcap": 1.5 if mode else 0.0, "qk_matmul_output_mode": mode}, [Q, K, V, f(4, 3, 5, phase=6.0), None, None], 4)
      for mode in range(4)],
    ("Attention", 24, {"is_causal": 1}, [Q, K, V, None, None, None, {"shape": [2], "ints": [4, 2]}], 1),
    ("Attention", 24, {}, [Q, K, V, f(3, 4, phase=5.0), None, None, {"shape": [2], "ints": [5, 1]}], 1),
    ("Attention", 25, {"left_window_size": 1, "right_window_size": 1}, [Q, K, V, None, PAST_K, PAST_V], 3),
    ("RotaryEmbedding", 23, {}, [f(2, 3, 2, 8), f(2, 2, 4, phase=1.0), f(2, 2, 4, phase=2.0)], 1),
    ("RotaryEmbedding", 23, {"interleaved": 1, "rotary_embedding_dim": 4},
     [f(2, 3, 2, 8), f(6, 2, phase=1.0), f(6, 2, phase=2.0), {"shape": [2, 2], "ints": [0, 5, 3, 1]}], 1),
    ("RotaryEmbedding", 23, {"num_heads": 3}, [f(2, 2, 24), f(6, 4, phase=1.0), f(6, 4, phase=2.0), {"shape": [2, 2], "ints": [4, 4, 0, 2]}], 1),
    ("LayerNormalization", 17, {"axis": 1}, [f(2, 3, 5), f(3, 5, phase=1.0), f(3, 5, phase=2.0)], 3),
    ("LayerNormalization", 17, {"epsilon": 0.1}, [f(2, 3, 5), f(5, phase=1.0)], 1),
    ("RMSNormalization", 23, {"epsilon": 0.01}, [f(2, 3, 5), f(5, phase=1.0)], 1),
    ("BatchNormalization", 15, {}, [f(2, 3, 4), f(3), f(3, phase=1.0), f(3, phase=2.0), {**f(3, phase=3.0), "positive": True}], 1),
    ("BatchNormalization", 15, {"training_mode": 1, "momentum": 0.7},
     [f(2, 3, 4), f(3), f(3, phase=1.0), f(3, phase=2.0), {**f(3, phase=3.0), "positive": True}], 3),
    ("Softmax", 13, {"axis": 1}, [f(2, 3, 4)], 1),
    ("LogSoftmax", 13, {"axis": 0}, [f(2, 3, 4)], 1),
    ("Gemm", 13, {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, [f(3, 2), f(4, 3, phase=1.0), f(2, 1, phase=2.0)], 1),
    ("MatMul", 13, {}, [f(2, 1, 2, 3), f(3, 3, 2, phase=1.0)], 1),
    ("MatMul", 13, {}, [f(3), f(2, 3, 2, phase=1.0)], 1),
    ("Gelu", 20, {}, [f(7)], 1),
    ("Gelu", 20, {"approximate": "tanh"}, [f(7)], 1),
]


def main():
    cases = []
    for op, opset, attributes, inputs, outputs in CASES:
        results = evaluate(op, opset, attributes, inputs, outputs)
        values = [{"shape": list(y.shape), "values": [float(f"{v:.6g}") for v in np.asarray(y, dtype=np.float64).ravel()]} for y in results]
        for v in values:
            v["values"] = ["-inf" if x == -math.inf else x for x in v["values"]]
        cases.append({"op": op, "opset": opset, "attributes": attributes, "inputs": inputs, "outputs": values})
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    pathlib.Path(__file__).with_name("nn_golden.json").write_text(f'{{"onnx":"{onnx.__version__}","cases":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
