"""The rarer operators of com.microsoft against ONNX Runtime or, where it has them on GPUs only, what their schema says."""
import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from microsoft_models import compare, floats, gives, random, refused


def integers(low, high, *shape, dtype=np.int32):
    return random.integers(low, high, shape).astype(dtype)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


@pytest.mark.parametrize("activation,numbers", [(None, []), ("Relu", []), ("LeakyRelu", [0.1]), ("Tanh", []), ("Sigmoid", []),
                                                ("HardSigmoid", [0.3, 0.4]), ("HardSwish", []), ("Clip", [-0.2, 0.7])])
@pytest.mark.parametrize("constants", [(), (1, 2)])
def test_fused_conv(activation, numbers, constants):
    more = {} if activation is None else {"activation": activation}
    if numbers:
        more["activation_params"] = numbers
    x, w, b = 2 * floats(2, 6, 9, 8), floats(8, 3, 3, 3), floats(8)
    plain = {"pads": [1, 1, 1, 1], "group": 2, "strides": [2, 1], **more}
    compare("FusedConv", [x, w, b], constants=constants, **plain)
    compare("FusedConv", [x, w], constants=constants[:1], **plain)
    compare("FusedConv", [x, w, b, floats(2, 8, 5, 8)], constants=constants, **plain)
    compare("FusedConv", [x, w, None, floats(2, 8, 5, 8)], constants=constants[:1], **plain)


def test_fused_conv_refusals():
    x, w, b = floats(1, 2, 5, 5), floats(3, 2, 3, 3), floats(3)
    refused("FusedConv", [x, w, b], "activation 'Elu' is not supported", activation="Elu")
    refused("FusedConv", [x, w, b], "expected 1 for 'LeakyRelu'", activation="LeakyRelu")
    refused("FusedConv", [x, w, b, floats(1, 3, 3, 4)], "residual has shape", activation="Relu")


@pytest.mark.parametrize("activation,numbers", [("Relu", ""), ("Tanh", ""), ("Sigmoid", ""), ("Softplus", ""), ("Softsign", ""),
                                                ("LeakyRelu", "a"), ("Elu", "a"), ("Celu", "a"), ("ThresholdedRelu", "a"),
                                                ("HardSigmoid", "ab"), ("ParametricSoftplus", "ab"), ("ScaledTanh", "ab"),
                                                ("Selu", "ag")])
def test_fused_gemm(activation, numbers):
    named = {"a": ("activation_alpha", 0.3), "b": ("activation_beta", 0.6), "g": ("activation_gamma", 1.3)}
    more = {"activation": activation, **dict(named[n] for n in numbers)}
    for constants in ((), (1, 2)):
        compare("FusedGemm", [floats(5, 9), floats(9, 70), floats(70)], constants=constants, **more)
        compare("FusedGemm", [floats(9, 5), floats(7, 9), floats(5, 1)], constants=constants, transA=1, transB=1, alpha=0.5,
                beta=2.0, **more)
    compare("FusedGemm", [floats(5, 9), floats(9, 7)], **more)


def test_fused_gemm_refusals():
    refused("FusedGemm", [floats(2, 3), floats(3, 4)], "activation 'Mish' is not supported", activation="Mish")
    refused("FusedGemm", [floats(2, 3), floats(3, 4)], "needs the attribute 'activation_alpha'", activation="Elu")
    refused("FusedGemm", [integers(0, 3, 2, 3), integers(0, 3, 3, 4)], "float", activation="Relu")


@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper):
    for shape, k in itertools.product([(4, 5), (2, 3, 6, 4)], [None, -7, -1, 0, 2, 9]):
        for x in (floats(*shape), integers(-5, 5, *shape, dtype=np.int64)):
            compare("Trilu", [x, None if k is None else np.array(k)], upper=upper)


def test_unique():
    for n in (0, 1, 7, 100):
        compare("Unique", [integers(0, 9, n).astype(np.float32)], (True, True, True))
    refused("Unique", [floats(2, 3)], "expected a vector", (True, True, True))


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode, padding, align):
    compare("GridSample", [floats(2, 3, 5, 7), 1.4 * floats(2, 4, 6, 2)], tolerance=1e-4, mode=mode, padding_mode=padding,
            align_corners=align)


def test_grid_sample_refusals():
    refused("GridSample", [floats(1, 1, 3, 3), floats(1, 2, 2, 2)], "mode is 'cubic'", mode="cubic")
    refused("GridSample", [floats(1, 1, 3, 3, 3), floats(1, 2, 2, 2, 3)], "rank 5")


@pytest.mark.parametrize("x,bias,axis,inner", [((2, 3, 4, 5), (2, 1, 1, 5), 3, 1), ((2, 3, 4, 5), (2, 3, 1, 5), -1, 1),
                                               ((2, 3, 4, 5), (1, 1, 4, 5), 3, 0), ((2, 3, 4, 5), (4, 5), -1, 0),
                                               ((2, 3, 4), (2, 3, 4), 1, 1), ((2, 3, 4), (1, 3, 4), 1, 0)])
@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-6), (np.float16, 2e-3), (np.float64, 1e-12)])
def test_bias_softmax(x, bias, axis, inner, dtype, tolerance):
    x, bias = 3 * floats(*x).astype(dtype), floats(*bias).astype(dtype)
    rows = (x.astype(np.float64) + bias).reshape(int(np.prod(x.shape[:axis])), -1)
    gives("BiasSoftmax", [x, bias], [softmax(rows).reshape(x.shape).astype(dtype)], tolerance=tolerance, axis=axis,
          is_inner_broadcast=inner)


def test_bias_softmax_refusals():
    refused("BiasSoftmax", [floats(2, 3, 4), floats(1, 3, 4)], "bias has shape", axis=2, is_inner_broadcast=1)
    refused("BiasSoftmax", [floats(2, 3, 4), floats(2, 1, 4)], "bias has shape", axis=2, is_inner_broadcast=0)
    refused("BiasSoftmax", [floats(2, 3, 4), floats(2, 3, 1)], "bias has shape", axis=2, is_inner_broadcast=1)
    refused("BiasSoftmax", [floats(2, 3), floats(2, 3)], "is_inner_broadcast", axis=1)


def test_bias_split_gelu():
    for shape in ((2, 5, 16), (1, 3, 1400)):
        x, bias = 2 * floats(*shape), floats(shape[-1])
        left, right = np.split((x + bias).astype(np.float64), 2, -1)
        gives("BiasSplitGelu", [x, bias], [(left * gelu(right)).astype(np.float32)])
    refused("BiasSplitGelu", [floats(1, 2, 7), floats(7)], "even number")


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gather_block_quantized_bytes(bits, points, dtype):
    for shape, block in (((7, 48), 16), ((7, 3, 40), 32)):
        data = integers(0, 256, *shape[:-1], shape[-1] * bits // 8, dtype=np.uint8)
        blocks = -(-shape[-1] // block)
        zero = integers(0, 256, *shape[:-1], -(-blocks * bits // 8), dtype=np.uint8) if points else None
        for indices in (np.array([[0, 6], [3, 3]]), np.array(5, np.int32), np.array([-1, 2, 7, -8])):
            compare("GatherBlockQuantized", [data, indices, floats(*shape[:-1], blocks).astype(dtype), zero], constants=(0, 2, 3),
                    tolerance=2e-3 if dtype == np.float16 else 1e-6, bits=bits, block_size=block, quantize_axis=-1)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("gather,quantize", [(0, 1), (1, 0), (1, 1), (-1, -2)])
def test_gather_block_quantized_elements(dtype, gather, quantize):
    low, high = (-8, 8) if dtype == ml_dtypes.int4 else (0, 16)
    data = random.integers(low, high, (20, 40)).astype(dtype)
    scales = floats(*(-(-n // 16) if axis == quantize % 2 else n for axis, n in enumerate(data.shape)))
    points = [None] if dtype == ml_dtypes.float8_e4m3fn else [None, random.integers(low, high, scales.shape).astype(dtype)]
    for zero in points:
        compare("GatherBlockQuantized", [data, np.array([[3, 0], [19, -1]]), scales, zero], constants=(0, 2, 3), gather_axis=gather,
                quantize_axis=quantize, block_size=16)


def test_gather_block_quantized_refusals():
    data, index, scales = integers(0, 256, 4, 16, dtype=np.uint8), np.array([1]), floats(4, 2)
    refused("GatherBlockQuantized", [data, index, scales], "bits is 3", bits=3, block_size=16)
    refused("GatherBlockQuantized", [data, index, scales], "block_size is 24", block_size=24)
    refused("GatherBlockQuantized", [data, index, scales], "block_size is 0", block_size=0)
    refused("GatherBlockQuantized", [data, index, floats(4, 3)], "scales have shape", block_size=16)
    refused("GatherBlockQuantized", [data, index, scales, integers(0, 9, 4, 2, dtype=np.uint8)], "zero_points has shape",
            block_size=16)
    refused("GatherBlockQuantized", [data, index, scales], "gather_axis is 1", gather_axis=1, block_size=16)
    refused("GatherBlockQuantized", [data, index, scales], "quantize_axis is 0", quantize_axis=0, block_size=16)
    refused("GatherBlockQuantized", [data.reshape(1, 4, 16), index, scales], "scales have shape", quantize_axis=-1,
            block_size=16)


@pytest.mark.parametrize("dtype,tolerance", [(np.float32, 1e-4), (np.float64, 1e-10), (np.float16, 3e-2)])
def test_inverse(dtype, tolerance):
    for shape in ((1, 1), (2, 3, 4, 4), (17, 17)):
        compare("Inverse", [(floats(*shape) + 3 * np.eye(shape[-1])).astype(dtype)], tolerance=tolerance)
    refused("Inverse", [floats(2, 3)], "square matrices")


@pytest.mark.parametrize("shape,axes", [((8,), 1), ((2, 3, 14), 1), ((3, 5, 6), 2), ((2, 3, 5, 4), 3)])
def test_rfft(shape, axes):
    x = floats(*shape)
    over = tuple(range(-axes, 0))
    spectrum = np.fft.rfftn(x.astype(np.float64), axes=over)
    pairs = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)
    gives("Rfft", [x], [pairs], signal_ndim=axes, normalized=0, onesided=1)
    gives("Irfft", [pairs], [x], signal_ndim=axes)
    noise = floats(*pairs.shape)
    gives("Irfft", [noise], [np.fft.irfftn(noise[..., 0] + 1j * noise[..., 1], axes=over).astype(np.float32)], signal_ndim=axes)


def test_rfft_refusals():
    refused("Rfft", [floats(8)], "onesided is 0", onesided=0)
    refused("Rfft", [floats(8)], "normalized is 1", normalized=1)
    refused("Rfft", [floats(8)], "signal_ndim is 4", signal_ndim=4)
    refused("Rfft", [floats(8)], "signals of 2 axes", signal_ndim=2)
    refused("Irfft", [floats(2, 5, 3)], "a last axis of 2", signal_ndim=1)
    refused("Irfft", [floats(2, 5, 2)], "signal_ndim")


windows = [{"kernel_shape": [2, 2]}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
           {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
           {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"kernel_shape": [3, 2], "auto_pad": "VALID"}]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_nhwc_max_pool(dtype):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max + 1
    for more in windows + [{"kernel_shape": [2, 3], "dilations": [2, 1]},
                           {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}]:
        compare("NhwcMaxPool", [integers(low, high, 2, 7, 6, 5, dtype=dtype)], tolerance=0, **more)
    compare("NhwcMaxPool", [integers(low, high, 2, 9, 3, dtype=dtype)], tolerance=0, kernel_shape=[3])
    compare("NhwcMaxPool", [integers(low, high, 1, 4, 5, 6, 3, dtype=dtype)], tolerance=0, kernel_shape=[2, 3, 2])
    refused("NhwcMaxPool", [integers(0, 9, 2, 7, 3, dtype=dtype)], "2 spatial axes", kernel_shape=[2, 2])


def test_max_pool_with_mask():
    for more in windows:
        compare("MaxpoolWithMask", [floats(2, 3, 7, 6), integers(0, 2, 1, 1, 7, 6)], tolerance=0, **more)
    compare("MaxpoolWithMask", [floats(2, 3, 9), integers(0, 2, 1, 1, 9)], tolerance=0, kernel_shape=[3], pads=[1, 1])
    compare("MaxpoolWithMask", [floats(2, 2, 4, 5, 6), integers(0, 2, 1, 1, 4, 5, 6)], tolerance=0, kernel_shape=[2, 3, 2])
    refused("MaxpoolWithMask", [floats(2, 3, 7), integers(0, 2, 2, 3, 7)], "M of shape", kernel_shape=[2])
    refused("MaxpoolWithMask", [floats(2, 3, 7), integers(0, 2, 1, 1, 8)], "M of shape", kernel_shape=[2])
    refused("MaxpoolWithMask", [floats(2, 3, 7), integers(0, 2, 1, 1, 7)], "storage_order", kernel_shape=[2], storage_order=1)


def attention(q, k, v, scale, added=0):
    """Heads of one sequence: q [heads, rows, dim], k and v [heads, keys, dim]."""
    return softmax(np.einsum("hid,hjd->hij", q, k) * scale + added) @ v


@pytest.mark.parametrize("past", [0, 3, 5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_decoder_masked_multi_head_attention(past, bias, mask, added):
    rows = [floats(2, 1, 16) for _ in range(3)]
    hidden = integers(0, 2, 2, past + 1) if mask else None
    inputs = rows + [hidden, floats(1, 2, 1, past + 1) if added else None, floats(2, 2, 6, 8), floats(2, 2, 6, 8),
                     np.array([past], np.int32), None, None, floats(48) if bias else None]
    more = {"num_heads": 2, "mask_filter_value": -5.0, "scale": 0.3}
    compare("DecoderMaskedMultiHeadAttention", inputs, (True, True, True), past_present_share_buffer=1, **more)
    compare("DecoderMaskedMultiHeadAttention", rows[:1] + [floats(2, 2, past + 1, 8) for _ in range(2)] + [hidden] + [None] * 6
            + [floats(48) if bias else None], **more)


def test_decoder_masked_multi_head_attention_without_a_shared_cache():
    q, k, v, past_k, past_v = floats(2, 1, 16), floats(2, 1, 16), floats(2, 1, 24), floats(2, 2, 4, 8), floats(2, 2, 4, 12)
    keys = np.concatenate([past_k, k.reshape(2, 2, 1, 8)], 2)
    values = np.concatenate([past_v, v.reshape(2, 2, 1, 12)], 2)
    y = np.stack([attention(q[b].reshape(2, 1, 8), keys[b], values[b], 8 ** -0.5).reshape(1, 24) for b in range(2)])
    gives("DecoderMaskedMultiHeadAttention", [q, k, v, None, None, past_k, past_v], [y, keys, values], (True, True, True),
          num_heads=2)
    k, v = floats(2, 1, 16), floats(2, 1, 16)
    compare("DecoderMaskedMultiHeadAttention", [q, k, v, None, None, floats(2, 2, 4, 8), floats(2, 2, 4, 8),
                                                np.zeros(1, np.int32)], (True, True, True), num_heads=2, past_present_share_buffer=1)
    gives("DecoderMaskedMultiHeadAttention", [np.concatenate([q, k, v], 2)], [v], num_heads=2)


def test_decoder_masked_multi_head_attention_refusals():
    row, cache, op = floats(2, 1, 16), floats(2, 2, 4, 8), "DecoderMaskedMultiHeadAttention"
    self_attention = [row, row, row, None, None, cache, cache, np.array([4], np.int32)]
    refused(op, self_attention[:7], "needs past_key, past_value and past_sequence_length", num_heads=2, past_present_share_buffer=1)
    refused(op, [row, row, row] + [None] * 5 + [np.ones(1, np.int32)], "beam_width", num_heads=2)
    refused(op, [floats(2, 2, 16)] * 3, "expected \\[batch, 1, hidden\\]", num_heads=2)
    refused(op, [row, row, row], "num_heads is 0", num_heads=0)
    refused(op, [row, cache, cache, None, None, cache, cache], "cross attention", num_heads=2)
    refused(op, [row, row, row, None, None, floats(2, 2, 4, 7), cache], "past_key has shape", num_heads=2)
    for n in (4, -1):
        self_attention[7] = np.array([n], np.int32)
        with pytest.raises(Exception, match=f"past_sequence_length is {n}; expected 0 to 3"):
            gives(op, self_attention, [None], num_heads=2, past_present_share_buffer=1)


@pytest.mark.parametrize("added", [None, (1, 1, 4, 4), (3, 2, 4, 4)])
@pytest.mark.parametrize("sizes", [(16, 16), (8, 24)])
def test_packed_attention(added, sizes):
    width, v_width = sizes
    starts = [0, 1, 3, 7]
    offsets = np.array([[0, 4, 5, 8], [9, 10, 11, 1], [2, 3, 6, 7]], np.int32)
    x, w, b = floats(7, 10), floats(10, 2 * width + v_width), floats(2 * width + v_width)
    bias = None if added is None else floats(*added)
    q, k, v = (np.moveaxis(part.reshape(7, 2, -1), 1, 0) for part in np.split(x @ w + b, [width, 2 * width], 1))
    y = np.zeros((7, v_width), np.float32)
    for i, (start, end) in enumerate(zip(starts, starts[1:])):
        extra = 0 if bias is None else np.broadcast_to(bias, (3, 2, 4, 4))[i, :, :end - start, :end - start]
        heads = attention(q[:, start:end], k[:, start:end], v[:, start:end], 0.3, extra)
        y[start:end] = np.moveaxis(heads, 0, 1).reshape(end - start, -1)
    more = {} if width == v_width else {"qkv_hidden_sizes": [width, width, v_width]}
    gives("PackedAttention", [x, w, b, offsets, np.array(starts, np.int32), bias], [y], num_heads=2, scale=0.3, **more)


def test_packed_attention_refusals():
    inputs = [floats(7, 10), floats(10, 48), floats(48), integers(0, 9, 3, 4), np.array([0, 1, 3, 7], np.int32)]
    refused("PackedAttention", inputs, "qkv_hidden_sizes is", num_heads=2, qkv_hidden_sizes=[16, 8, 24])
    refused("PackedAttention", inputs[:4] + [np.zeros(3, np.int32)], "cumulative_sequence_length has shape", num_heads=2)
    for starts in ([0, 1, 3, 8], [0, 3, 1, 7], [0, 1, 2, 7], [1, 1, 3, 7]):
        with pytest.raises(Exception, match="expected it to grow from 0 to 7 tokens by at most 4"):
            gives("PackedAttention", inputs[:4] + [np.array(starts, np.int32)], [None], num_heads=2)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity", "swiglu"])
@pytest.mark.parametrize("normalize", [0, 1])
def test_moe(activation, normalize):
    inter = 32 if activation == "swiglu" else 16
    more = {"activation_type": activation, "normalize_routing_weights": normalize}
    if activation == "swiglu":
        more |= {"swiglu_fusion": 1, "activation_alpha": 1.3, "activation_beta": 0.5, "swiglu_limit": 0.7}
    fc1, fc2 = floats(4, inter, 12), floats(4, 12, 16)
    compare("MoE", [floats(6, 12), 3 * floats(6, 4), fc1, floats(4, inter), fc2, floats(4, 12)], k=2, tolerance=2e-5, **more)
    compare("MoE", [floats(2, 3, 12), 3 * floats(6, 4), fc1, None, fc2], k=4, tolerance=2e-5, **more)
    compare("MoE", [floats(2, 3, 12), np.zeros((6, 4), np.float32), fc1, None, fc2], k=1, tolerance=2e-5, **more)


def moe(x, router, fc1, fc2, activate, fc3=None):
    """A mixture of one expert of each token, by the schema."""
    y = np.zeros_like(x)
    for t, e in enumerate(router.argmax(1)):
        inner = activate(fc1[e] @ x[t]) if fc3 is None else activate(fc1[e] @ x[t], fc3[e] @ x[t])
        y[t] = softmax(router[t])[e] * (fc2[e] @ inner)
    return y


def test_moe_forms_of_gpus():
    x, router, fc2 = floats(6, 12), floats(6, 4), floats(4, 12, 16)
    fc1, fc3, wide = floats(4, 16, 12), floats(4, 16, 12), floats(4, 32, 12)
    tanh_gelu = lambda g: 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g ** 3)))
    swiglu = lambda g, l: np.minimum(g, 0.4) / (1 + np.exp(-1.2 * np.minimum(g, 0.4))) * (np.clip(l, -0.4, 0.4) + 0.3)
    geglu = lambda g, l: tanh_gelu(g) * l
    limits = {"activation_alpha": 1.2, "activation_beta": 0.3, "swiglu_limit": 0.4}
    gives("MoE", [x, router, fc1, None, fc2], [moe(x, router, fc1, fc2, lambda h: np.maximum(h, 0) ** 2)], activation_type="relu2")
    gives("MoE", [x, router, fc1, None, fc2, None, fc3], [moe(x, router, fc1, fc2, swiglu, fc3)], activation_type="swiglu", **limits)
    gives("MoE", [x, router, wide, None, fc2], [moe(x, router, wide, fc2, lambda h: swiglu(h[:16], h[16:]))],
          activation_type="swiglu", swiglu_fusion=2, **limits)
    for fusion, halves in ((1, lambda h: (h[::2], h[1::2])), (2, lambda h: (h[:16], h[16:]))):
        gives("MoE", [x, router, wide, None, fc2], [moe(x, router, wide, fc2, lambda h: geglu(*halves(h)))],
              activation_type="geglu", swiglu_fusion=fusion, **limits)


def test_moe_refusals():
    x, router, fc1, fc2 = floats(6, 12), floats(6, 4), floats(4, 16, 12), floats(4, 12, 16)
    plain = [x, router, fc1, None, fc2]
    refused("MoE", plain, "k is 5, but there are 4 experts", k=5)
    refused("MoE", plain, "k is 0", k=0)
    refused("MoE", plain[:3] + [floats(4, 16)], "fc2_experts_weights are missing")
    refused("MoE", plain, "activation_type is 'mish'", activation_type="mish")
    refused("MoE", plain, "use_sparse_mixer", use_sparse_mixer=1)
    refused("MoE", plain, "swiglu_limit_after_activation", swiglu_limit_after_activation=1)
    refused("MoE", plain, "geglu needs swiglu_fusion", activation_type="geglu")
    refused("MoE", plain, "fc3_experts_weights are missing", activation_type="swiglu")
    refused("MoE", plain + [None, fc1], "fc3_experts_weights are given")
    refused("MoE", [x, floats(5, 4), fc1, None, fc2], "router_probs has shape")
    refused("MoE", [x, router, fc1, None, floats(4, 12, 15)], "fc2_experts_weights has shape")


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("block", [None, 16, 32])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "swiglu"])
def test_qmoe(bits, block, points, activation):
    hidden, inter = 32, 64
    rows = inter * 2 if activation == "swiglu" else inter
    bytes_of = lambda *shape: integers(0, 256, *shape, dtype=np.uint8)
    packed = lambda n: -(-n * bits // 8)
    inputs = [floats(6, hidden), 3 * floats(6, 4)]
    zeros = []
    for n, k in ((rows, hidden), (hidden, inter)):
        scales = (4, n, k // block) if block else (4, n)
        inputs += [bytes_of(4, n, packed(k)), 0.02 * floats(*scales), floats(4, n)]
        zeros.append(bytes_of(4, n, packed(k // block)) if block else bytes_of(4, packed(n)))
    inputs += [None] * 3 + (zeros if points else [None] * 2) + [None]
    more = {"k": 2, "expert_weight_bits": bits, "activation_type": activation} | ({"block_size": block} if block else {})
    if activation == "swiglu":
        more |= {"swiglu_fusion": 1, "activation_alpha": 1.7, "activation_beta": 1.0, "swiglu_limit": 7.0}
    for router in (None, np.abs(floats(6, 4))):
        for normalize in (0, 1):
            compare("QMoE", inputs + [router], tolerance=2e-3, normalize_routing_weights=normalize, **more)
    inputs[1] = np.zeros_like(inputs[1])  # of equal experts the last ones
    compare("QMoE", inputs, tolerance=2e-3, **more)


def test_qmoe_refusals():
    x, router, fc1, fc2 = floats(6, 32), floats(6, 4), integers(0, 9, 4, 16, 16, dtype=np.uint8), integers(0, 9, 4, 32, 8, dtype=np.uint8)
    plain = [x, router, fc1, floats(4, 16), None, fc2, floats(4, 32)]
    gives("QMoE", plain[:3] + [0 * plain[3], None, fc2, plain[6]], [np.zeros_like(x)])
    refused("QMoE", plain, "quant_type is 'fp8'", quant_type="fp8")
    refused("QMoE", plain, "fc1 have 3 bits", expert_weight_bits=3)
    refused("QMoE", plain, "block_size is 24", block_size=24)
    refused("QMoE", plain, "weights_prepacked is 1", weights_prepacked=1)
    refused("QMoE", plain[:3] + [None] + plain[4:], "fc1_scales are missing")
    refused("QMoE", plain, "fc1_scales has shape", block_size=16)
    refused("QMoE", plain[:2] + [integers(0, 9, 4, 16, 15, dtype=np.uint8)] + plain[3:], "fc1_experts_weights has shape")
    refused("QMoE", plain + [None] * 8 + [floats(4)], "input 15")
