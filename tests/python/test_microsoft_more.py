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
    refused("FusedConv", [x, w, b, floats(1, 3, 3, 4)], "Z has shape", activation="Relu")


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
