"""Exported encoders: the fusions fire on every exporter's spelling, and the numbers are those of ONNX Runtime."""
import collections
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import ocior

ENCODERS = ["distilbert_eager_ts", "distilbert_sdpa_ts", "distilbert_eager_dyn", "distilbert_sdpa_dyn", "minilm"]
LAYERS = 6


def session(path, threads=1, **config):
    options = ocior.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in config.items():
        options.add_session_config_entry("ocior." + key, value)
    return ocior.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def operators(s):
    return collections.Counter(step["op"] for step in json.loads(s.explain(json=True))["steps"])


@pytest.mark.parametrize("name", ENCODERS)
def test_fusions_fire(accept, name):
    ops = operators(session(accept.fill(name), cache="0"))
    heads = 0 if name == "minilm" else 1
    assert ops["FusedAttention"] == LAYERS, "one attention a layer"
    assert ops["Linear"] == 4 * LAYERS + heads, "qkv, out, up and down a layer, and the head"
    assert ops["LayerNormalization"] + ops["SkipLayerNorm"] == 2 * LAYERS + 1
    for gone in ("MatMul", "Softmax", "Transpose", "Erf", "Gelu", "Where", "IsNaN", "Constant", "Identity"):
        assert ops[gone] == 0, f"{gone} is left: {ops}"


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 33), (3, 128)])
def test_numbers_are_those_of_onnxruntime(accept, name, shape):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, feeds = accept.fill(name), accept.feeds(name, *shape)
    want = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    got = session(path, cache="0").run(None, feeds)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        # A single logit can be near 0; the typical magnitude of these models' outputs is 0.1 and more.
        assert np.max(np.abs(g - w)) <= 3e-6 * max(np.max(np.abs(w)), 0.1)


def bits(outputs):
    return hashlib.sha256(b"".join(o.tobytes() for o in outputs)).hexdigest()


SHAPES = 200 if os.environ.get("OCIOR_LONG") else 25


@pytest.mark.parametrize("table", ["generic", "avx2", "avx512", "amx"])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_same_bits_for_any_number_of_threads(accept, precision, table):
    """In a process of its own for each table, as a process chooses its table once."""
    if table == "generic" and precision != "highest":
        pytest.skip("this table computes every precision alike")
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_graphs; test_graphs.compare_threads({accept.fill('minilm')!r}, {precision!r})"
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, OCIOR_ISA=table), capture_output=True, text=True)
    if done.returncode and "OCIOR_ISA" in done.stderr:
        pytest.skip(f"this machine has no {table}")
    assert done.returncode == 0, done.stderr[-2000:]


def compare_threads(path, precision):
    import graphs as accept
    one, two = (session(path, threads=n, precision=precision) for n in (1, 2))
    rng = np.random.default_rng(7)
    for _ in range(SHAPES):
        batch, length = int(rng.integers(1, 5)), int(rng.integers(1, 160))
        feeds = accept.feeds("minilm", batch, length)
        assert bits(one.run(None, feeds)) == bits(two.run(None, feeds)), (batch, length)


def test_a_second_session_uses_the_cache_and_gives_the_same_bits(accept):
    path, feeds = accept.fill("minilm"), accept.feeds("minilm", 2, 40)
    first = session(path)
    assert json.loads(first.explain(json=True))["weights"]["mapped"]
    second = session(path)
    plain = session(path, cache="0")
    assert not json.loads(plain.explain(json=True))["weights"]["mapped"]
    assert bits(first.run(None, feeds)) == bits(second.run(None, feeds)) == bits(plain.run(None, feeds))


def test_switched_off_fusions_change_no_answer(accept):
    path, feeds = accept.fill("minilm"), accept.feeds("minilm", 2, 19)
    options = ocior.SessionOptions()
    options.graph_optimization_level = ocior.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("ocior.cache", "0")
    plain = ocior.InferenceSession(path, options).run(None, feeds)
    fused = session(path, cache="0").run(None, feeds)
    for p, f in zip(plain, fused, strict=True):
        assert np.max(np.abs(p - f)) <= 3e-6 * np.max(np.abs(p))
