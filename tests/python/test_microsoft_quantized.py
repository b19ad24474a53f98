"""Operators of com.microsoft on quantised numbers against ONNX Runtime: attributes and input forms of its documented schema."""
import itertools

import numpy as np
import pytest

from microsoft_models import model
import ocior

onnx = pytest.importorskip("onnx", reason="the onnx package makes the models")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime gives the numbers")

random = np.random.default_rng(11)
both = pytest.mark.parametrize("t", [np.uint8, np.int8])


def floats(*shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


def scale(*shape):
    return np.asarray(random.uniform(0.01, 0.1, shape), np.float32)


def quantised(t, *shape):
    return np.asarray(random.integers(np.iinfo(t).min, np.iinfo(t).max + 1, shape), t)


def points(t, *shape):
    return np.asarray(quantised(t, *shape) // 4, t)


def weights(t, *shape):
    """Small where signed: without VNNI, ONNX Runtime's sums of uint8 times int8 saturate at 16 bits."""
    return np.asarray(quantised(t, *shape) // 2, t) if t == np.int8 else quantised(t, *shape)


def fixed(data, inputs, constants):
    """The model with some inputs as initializers."""
    proto = onnx.load_from_string(data)
    names = {f"x{i}": inputs[i] for i in constants}
    others = [i for i in proto.graph.input if i.name not in names]
    del proto.graph.input[:]
    proto.graph.input.extend(others)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(x, name) for name, x in names.items())
    return proto.SerializeToString()


def run_both(op, inputs, outputs, attributes, constants=()):
    data = fixed(model(op, inputs, outputs, attributes, "com.microsoft"), inputs, constants)
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None and i not in constants}
    want = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)
    got = ocior.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.shape == w.shape and g.dtype == w.dtype, f"output {i}: {g.dtype}{g.shape}, expected {w.dtype}{w.shape}"
        yield i, g.astype(np.float64), w.astype(np.float64)


def equal(op, inputs, outputs=(True,), steps=0, **attributes):
    """Integers that differ by at most `steps`."""
    for i, got, want in run_both(op, inputs, outputs, attributes):
        assert np.max(np.abs(got - want), initial=0) <= steps, f"output {i}: {np.count_nonzero(got != want)} of {got.size} differ"


def close(op, inputs, outputs=(True,), tolerance=1e-5, constants=(), **attributes):
    for i, got, want in run_both(op, inputs, outputs, attributes, constants):
        assert np.max(np.abs(got - want), initial=0) <= tolerance * max(1.0, np.max(np.abs(want), initial=0)), f"output {i}"


def refused(op, inputs, message, **attributes):
    with pytest.raises(Exception, match=message):
        ocior.InferenceSession(model(op, inputs, (True,), attributes, "com.microsoft"), providers=["CPUExecutionProvider"])


def half(value):
    return np.array(value, np.float32)


@both
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("a,b", [((2, 3, 67), (2, 3, 67)), ((2, 3, 5), (5,)), ((3, 1), (2, 3, 4)), ((2, 1, 4), (3, 1)),
                                 ((), (7,)), ((0, 3), (3,)), ((3, 999), (1,)), ((1, 8, 1, 1), (2, 8, 5, 5))])
def test_binary(t, op, a, b):
    def operands(*scales):
        return [quantised(t, *a), scales[0], points(t), quantised(t, *b), scales[1], points(t), scales[2], points(t)]
    for _ in range(3):
        equal(op, operands(scale(), scale(), scale()))
        equal(op, operands(half(0.5), half(0.25), half(1)))  # halves
        none = np.zeros((), t)
        equal(op, [quantised(t, *a), scale(), none, quantised(t, *b), scale(), none, scale(), none])


@both
@pytest.mark.parametrize("op,more", [("QLinearLeakyRelu", {}), ("QLinearLeakyRelu", {"alpha": 0.3}), ("QLinearSigmoid", {})])
def test_table(t, op, more):
    everything = np.arange(256).astype(t).reshape(2, 128)
    steps = 1 if op == "QLinearSigmoid" else 0
    for y in (scale(), half(1 / 256)):
        equal(op, [everything, scale(), points(t), y, points(t)], steps=steps, **more)
        equal(op, [everything, scale(), None, y, points(t)], steps=steps, **more)


@both
def test_omitted_zero_points_are_zero(t):
    """ONNX Runtime does not take the form that its schema documents."""
    x, none = quantised(t, 2, 3), np.zeros((), t)

    def run(zero):
        inputs = [x, half(0.3), zero, x, half(0.2), zero, half(0.7), zero]
        session = ocior.InferenceSession(model("QLinearAdd", inputs, (True,), {}, "com.microsoft"))
        return session.run(None, {f"x{i}": v for i, v in enumerate(inputs) if v is not None})[0]
    assert np.array_equal(run(None), run(none))


@both
def test_concat(t):
    part = lambda *shape: [quantised(t, *shape), scale(), points(t)]
    equal("QLinearConcat", [scale(), points(t)] + part(2, 3, 4) + part(2, 1, 4) + part(2, 5, 4), axis=1)
    equal("QLinearConcat", [scale(), points(t)] + part(2, 3, 4) + part(2, 3, 1), axis=-1)
    equal("QLinearConcat", [half(1), points(t), quantised(t, 9, 9), half(0.5), points(t)], axis=0)
    same = [half(0.25), points(t)]
    equal("QLinearConcat", same + [quantised(t, 2, 3)] + same + [quantised(t, 4, 3)] + same, axis=0)
    refused("QLinearConcat", [scale(), points(t)] + part(2, 3) + [quantised(t, 2, 3)], "6 inputs", axis=0)
    refused("QLinearConcat", [scale(), points(t)] + part(2, 3) + part(3, 3), "expected \\[2, 3\\]", axis=1)


@both
@pytest.mark.parametrize("condition,x,y", [((2, 3), (2, 3), (2, 3)), ((3, 1), (4,), (2, 1, 4)), ((5,), (5,), ())])
def test_where(t, condition, x, y):
    z = [scale(), points(t)]
    equal("QLinearWhere", [random.random(condition) < 0.5, quantised(t, *x), scale(), points(t), quantised(t, *y), *z, *z])
    equal("QLinearWhere", [random.random(condition) < 0.5, quantised(t, *x), half(0.5), points(t), quantised(t, *y), half(2),
                           points(t), half(1), points(t)])


@both
@pytest.mark.parametrize("last", [0, 1])
def test_pools(t, last):
    ends = lambda: [half(1), points(t), half(1), points(t)]
    for tail in (ends(), [scale(), points(t), scale(), points(t)]):
        for shape in ((2, 3, 9, 8), (1, 5, 7, 7), (1, 40, 6, 6)):
            x = [quantised(t, *shape)] + tail
            equal("QLinearGlobalAveragePool", x, channels_last=last)
            equal("QLinearAveragePool", x, kernel_shape=[2, 2], strides=[2, 2], channels_last=last)
            for include, ceil in itertools.product((0, 1), repeat=2):
                equal("QLinearAveragePool", x, kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1], channels_last=last,
                      count_include_pad=include, ceil_mode=ceil)
        if not last:
            equal("QLinearAveragePool", [quantised(t, 2, 3, 9)] + tail, kernel_shape=[3], auto_pad="SAME_LOWER")
            equal("QLinearAveragePool", [quantised(t, 2, 3, 4, 5, 6)] + tail, kernel_shape=[2, 3, 2])
    refused("QLinearAveragePool", [quantised(t, 2, 3, 9, 8)] + ends(), "dilations", kernel_shape=[2, 2], dilations=[2, 2])


@both
def test_reduce_mean(t):
    """Which ONNX Runtime has no kernel for."""
    x, (x_scale, y_scale), (x_zero, y_zero) = quantised(t, 3, 4, 5), (scale(), scale()), (points(t), points(t))
    for axes, keep in itertools.product(([0], [-1], [0, 2], [0, 1, 2]), (0, 1)):
        data = model("QLinearReduceMean", [x, x_scale, x_zero, y_scale, y_zero], (True,), {"axes": axes, "keepdims": keep},
                     "com.microsoft")
        feeds = {"x0": x, "x1": x_scale, "x2": x_zero, "x3": y_scale, "x4": y_zero}
        got = ocior.InferenceSession(data).run(None, feeds)
        mean = ((x.astype(np.float64) - x_zero) * x_scale).mean(tuple(axes), keepdims=bool(keep))
        info = np.iinfo(t)
        assert np.array_equal(got[0], np.clip(np.rint(mean / y_scale) + y_zero, info.min, info.max).astype(t))


@both
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_softmax(t, opset, axis):
    more = {"opset": opset, **({} if axis is None else {"axis": axis})}
    for step in (0.02, 0.2):
        equal("QLinearSoftmax", [quantised(t, 3, 4, 50), half(step), points(t), half(1 / 256), np.array(np.iinfo(t).min, t)],
              steps=1, **more)
    equal("QLinearSoftmax", [quantised(t, 7, 300), half(0.04), None, half(1 / 999), points(t)], steps=1, **more)


@both
def test_what_is_refused(t):
    x, one = quantised(t, 3, 4), [scale(), points(t)]
    other = np.int8 if t == np.uint8 else np.uint8
    refused("QLinearAdd", [x, scale(3), None, x, *one, *one], "input 1 has shape \\[3\\]; expected a single value")
    refused("QLinearAdd", [x, *one, x, *one], "input 6 is omitted")
    refused("QLinearMul", [x, *one, x.astype(other), scale(), points(other), *one], "int8")
    refused("QLinearAdd", [x, *one, quantised(t, 5), *one, *one], "broadcast|differ")
    refused("QLinearSoftmax", [x, *one, *one], "opset")
    refused("QLinearLeakyRelu", [x.astype(np.int16), scale(), None, scale()], "int16")


types = pytest.mark.parametrize("t,w", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
products = pytest.mark.parametrize("a,b", [((3, 4), (4, 5)), ((2, 3, 17), (17, 33)), ((1, 200), (200, 31)),
                                           ((65, 300), (300, 140)), ((2, 3, 4), (2, 4, 5))])


@types
@products
def test_matmul_integer_to_float(t, w, a, b):
    n = b[-1]
    x, y = quantised(t, *a), weights(w, *b)
    close("MatMulIntegerToFloat", [x, y, scale(), scale()])
    close("MatMulIntegerToFloat", [x, y, scale(1), scale(1), points(t), points(w), floats(n)])
    if len(b) == 2:
        close("MatMulIntegerToFloat", [x, y, scale(), scale(n), points(t), points(w, n), floats(n)])
        close("MatMulIntegerToFloat", [x, y, scale(), scale(n), None, points(w, n)])
    refused("MatMulIntegerToFloat", [x, y, scale(2), scale()], "expected a single value")
    refused("MatMulIntegerToFloat", [x, y, scale(), scale(n + 1)], "one per column")
    refused("MatMulIntegerToFloat", [x, y, scale(), scale(), None, None, floats(n + 1)], "bias has shape")


@both
@products
def test_dynamic_quantize_matmul(t, a, b):
    n = b[-1]
    for x in (floats(*a), np.abs(floats(*a)), 100 * floats(*a), np.zeros(a, np.float32)):
        close("DynamicQuantizeMatMul", [x, weights(t, *b), scale()])
        close("DynamicQuantizeMatMul", [x, weights(t, *b), scale(1), points(t), floats(n)])
        if len(b) == 2:
            close("DynamicQuantizeMatMul", [x, weights(t, *b), scale(n), points(t, n), floats(n)])
    refused("DynamicQuantizeMatMul", [quantised(t, *a), weights(t, *b), scale()], "int8|uint8")


@types
@pytest.mark.parametrize("m,k,n", [(3, 4, 5), (1, 40, 31), (65, 300, 140)])
@pytest.mark.parametrize("trans_a,trans_b", list(itertools.product((0, 1), repeat=2)))
def test_qgemm(t, w, m, k, n, trans_a, trans_b):
    a, b = quantised(t, *((k, m) if trans_a else (m, k))), weights(w, *((n, k) if trans_b else (k, n)))
    more = {"transA": trans_a, "transB": trans_b}
    for lanes in ((), (n,)):
        for c in (None, (n,), (1, n), (m, n), (m, 1), (1,)):
            c = None if c is None else random.integers(-9999, 9999, c).astype(np.int32)
            inputs = [a, scale(), points(t), b, scale(*lanes), points(w, *lanes), c]
            close("QGemm", inputs, **more)
            equal("QGemm", inputs + [np.asarray(3 * k ** 0.5 * scale(), np.float32), points(t)], alpha=0.7, **more)
    refused("QGemm", [a, scale(), points(t), b, scale(), points(w), None, scale()], "come together", **more)
    refused("QGemm", [a, scale(), points(t), b, scale(n + 1), points(w), None], "scale or zero point of B", **more)
    refused("QGemm", [a, scale(), points(t), b, scale(), points(w), np.zeros(n + 1, np.int32)], "does not broadcast", **more)


@pytest.mark.parametrize("t", [np.int8, np.uint8, np.int16, np.uint16])
def test_quantize_and_dequantize(t):
    x = 3 * floats(2, 3, 7)
    single = [scale(), points(t)]
    each = [scale(7), points(t, 7)]
    equal("QuantizeLinear", [x] + single)
    equal("QuantizeLinear", [x] + each, axis=-1)
    equal("QuantizeLinear", [x, scale(3), points(t, 3)], axis=1)
    equal("QuantizeLinear", [x.astype(np.float16), scale().astype(np.float16), points(t)])
    equal("QuantizeLinear", [x, scale()])
    y = quantised(t, 2, 3, 7)
    close("DequantizeLinear", [y] + single)
    close("DequantizeLinear", [y] + each, axis=-1)
    close("DequantizeLinear", [y, scale().astype(np.float16), points(t)], tolerance=1e-3)
    close("DequantizeLinear", [y, scale()])
    refused("QuantizeLinear", [x] + single, "block_size", block_size=2)
    refused("DequantizeLinear", [y, scale(5), points(t, 5)], "scales of shape", axis=1)


@pytest.mark.parametrize("t,w", [(np.uint8, np.uint8), (np.uint8, np.int8)])  # ONNX Runtime has no others
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(t, w, causal):
    more = {"num_heads": 2, "unidirectional": causal}
    x, weight, bias = quantised(t, 2, 4, 10), weights(w, 10, 48), floats(48)
    step = np.asarray(0.1 * scale(), np.float32)
    lengths, ones = np.array([3, 2], np.int32), np.ones((2, 4), np.int32)
    ones[:, -1] = 0
    for mask in (None, lengths, ones):
        close("QAttention", [x, weight, bias, step, scale(), mask, points(t), points(w)], tolerance=1e-4, **more)
        close("QAttention", [x, weight, bias, step, scale(), mask, points(t), points(w)], (True, True), tolerance=1e-4, **more)
    close("QAttention", [x, weight, bias, step, scale(48), None, points(t), points(w, 48)], tolerance=1e-4, **more)
    close("QAttention", [x, weight, bias, step, scale()], tolerance=1e-4, **more)
    close("QAttention", [x, weight, bias, step, scale(), None, points(t), points(w), floats(2, 2, 2, 3, 8)], (True, True),
          tolerance=1e-4, **more)
    refused("QAttention", [x, weight, bias, step, scale(5)], "one per column", **more)
    refused("QAttention", [x, weights(w, 9, 48), bias, step, scale()], "do not fit", **more)
    refused("QAttention", [x, weight, bias, step, scale()], "do_rotary", num_heads=2, do_rotary=1)
    refused("QAttention", [x, weight, bias, step, scale()], "num_heads", num_heads=0)


@both
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_embed_layer_normalization(t, segments, mask):
    integers = lambda high, *shape: random.integers(0, high, shape).astype(np.int32)
    optional = lambda x: x if segments else None
    inputs = [integers(10, 2, 4), optional(integers(2, 2, 4)), quantised(t, 10, 16), quantised(t, 6, 16),
              optional(quantised(t, 2, 16)), quantised(t, 16), quantised(t, 16), integers(2, 2, 4) if mask else None,
              scale(), scale(), optional(scale()), scale(), scale(),
              points(t), points(t), optional(points(t)), points(t), points(t)]
    close("QEmbedLayerNormalization", inputs, (True, True), tolerance=1e-4, epsilon=1e-5)
    if segments:
        with pytest.raises(Exception, match="come together"):
            bad = inputs[:10] + [None] + inputs[11:]
            ocior.InferenceSession(model("QEmbedLayerNormalization", bad, (True, True), {}, "com.microsoft"))


@both
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_dynamic_quantize_lstm(t, direction):
    d = 2 if direction == "bidirectional" else 1
    more = {"direction": direction, "hidden_size": 6}
    same = {"constants": (1, 2, 8, 9, 10, 11), **more}
    for lanes in ((d,), (d, 24)):
        zero = np.zeros(lanes, t) if t == np.int8 else np.full(lanes, 128, t)
        tail = [scale(*lanes) / np.float32(10), zero, scale(*lanes) / np.float32(10), zero]
        x, w, r = floats(5, 1, 7), weights(t, d, 7, 24), weights(t, d, 6, 24)
        outputs = (True, True, True)
        close("DynamicQuantizeLSTM", [x, w, r, None, None, None, None, None] + tail, outputs, tolerance=1e-4, **same)
        close("DynamicQuantizeLSTM", [x, w, r, floats(d, 48), None, floats(d, 1, 6), floats(d, 1, 6), floats(d, 18)] + tail,
              outputs, tolerance=1e-4, **same)
        close("DynamicQuantizeLSTM", [x, w, r, floats(d, 48), None, None, None, None] + tail, outputs, tolerance=1e-4, clip=0.5,
              **same)
        # Of several rows ONNX Runtime quantises the states together or apart, as its threads have it.
        lengths = np.array([5, 3, 1], np.int32)
        close("DynamicQuantizeLSTM", [floats(5, 3, 7), w, r, floats(d, 48), None, None, None, None] + tail, outputs,
              tolerance=0.02, **same)
        close("DynamicQuantizeLSTM", [floats(5, 3, 7), w, r, floats(d, 48), lengths, None, None, None] + tail, outputs,
              tolerance=0.02, **same)
        refused("DynamicQuantizeLSTM", [x, w, r, None, None, None, None, None] + tail[:2], "input 10 is omitted", **more)
        refused("DynamicQuantizeLSTM", [x[:0], w, r, None, None, None, None, None] + tail, "no empty axis", **more)
        refused("DynamicQuantizeLSTM", [x, w[:, :6], r, None, None, None, None, None] + tail, "W has shape", **more)


CONVOLUTIONS = [
    ((2, 8, 12, 13), (16, 8, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 5, 12, 13), (7, 5, 1, 1), {}),
    ((1, 6, 11, 9), (4, 3, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ((2, 8, 14, 15), (8, 1, 3, 3), {"group": 8, "pads": [1, 1, 1, 1]}),
    ((1, 4, 20), (6, 4, 5), {"dilations": [2], "pads": [3, 4]}),
]


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("x, w, attributes", CONVOLUTIONS)
@pytest.mark.parametrize("t, wt", [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
def test_qlinear_conv(t, wt, x, w, attributes, last):
    data = quantised(t, *x)
    if last:
        data = np.ascontiguousarray(np.moveaxis(data, 1, -1))
    weight = weights(wt, *w) // 2 if wt == np.int8 else quantised(wt, *w)
    zero = np.array(0, wt) if wt == np.int8 else np.array(120, wt)
    inputs = [data, half(0.02), np.array(3, t), np.asarray(weight, wt), scale(w[0]), np.full(w[0], zero), half(0.6), np.array(9, t),
              random.integers(-2000, 2000, w[0]).astype(np.int32)]
    for constants in ((), tuple(range(1, 9))):
        for i, got, want in run_both("QLinearConv", inputs, (True,), dict(attributes, channels_last=last), constants):
            assert np.max(np.abs(got - want), initial=0) <= 1, f"output {i}"
            assert np.count_nonzero(got != want) <= got.size // 1000, f"output {i}: {np.count_nonzero(got != want)} of {got.size} differ"


def test_qlinear_conv_refuses_a_channel_number_that_does_not_fit():
    inputs = [quantised(np.uint8, 1, 5, 6, 3), half(1), np.array(3, np.uint8), quantised(np.int8, 2, 5, 1, 1), half(1), np.array(0, np.int8),
              half(1), np.array(3, np.uint8)]
    refused("QLinearConv", inputs, "group 1", channels_last=1)
