"""Operators of com.microsoft against ONNX Runtime: attributes and input forms of its documented schema."""
import itertools

import numpy as np
import pytest

from microsoft_models import compare, floats, random, refused


def test_gelu():
    x, bias = 3 * floats(2, 5, 67), floats(67)
    compare("Gelu", [x])
    compare("QuickGelu", [x])
    compare("QuickGelu", [x], alpha=1.2)
    compare("BiasGelu", [x, bias])
    compare("FastGelu", [x])
    compare("FastGelu", [x, bias])


@pytest.mark.parametrize("skip", [(2, 5, 64), (1, 5, 64), (5, 64)])
def test_skip_layer_normalization(skip):
    x, s, row = floats(2, 5, 64), floats(*skip), lambda: floats(64)
    for beta, bias, total in itertools.product((False, True), repeat=3):
        outputs = (True, False, False, True) if total else (True,)
        compare("SkipLayerNormalization", [x, s, row(), row() if beta else None, row() if bias else None], outputs, epsilon=1e-5)
        compare("SkipSimplifiedLayerNormalization", [x, s, row(), row() if bias else None], outputs, epsilon=1e-5)
    compare("SkipLayerNormalization", [x, s, row(), row()])


def test_simplified_layer_normalization():
    compare("SimplifiedLayerNormalization", [floats(2, 5, 64), floats(64)], domain="", epsilon=1e-6)
    compare("SimplifiedLayerNormalization", [floats(2, 5, 64), floats(5, 64)], (True, True), domain="", axis=1)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("positions", [None, 1, 2])
def test_embed_layer_normalization(segments, mask, positions):
    integers = lambda high, *shape: random.integers(0, high, shape).astype(np.int32)
    compare("EmbedLayerNormalization",
            [integers(10, 2, 4), integers(2, 2, 4) if segments else None, floats(10, 16), floats(6, 16),
             floats(2, 16) if segments else None, floats(16), floats(16), integers(2, 2, 4) if mask else None,
             integers(6, positions, 4) if positions else None], (True, True, True), epsilon=1e-5)


def test_fused_matmul():
    compare("FusedMatMul", [floats(3, 4), floats(4, 5)], alpha=0.5)
    compare("FusedMatMul", [floats(2, 3, 4), floats(5, 4)], transB=1)
    compare("FusedMatMul", [floats(2, 4, 3), floats(2, 5, 4)], transA=1, transB=1, alpha=0.3)
    compare("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], transBatchA=1)
    compare("FusedMatMul", [floats(2, 3, 4), floats(4, 2, 5)], transBatchB=1)
    compare("FusedMatMul", [floats(4, 2, 3), floats(2, 4, 5)], transA=1, transBatchA=1)
    compare("FusedMatMul", [floats(2, 3, 4), floats(5, 2, 4)], transB=1, transBatchB=1)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("k,block", [(64, 32), (160, 32), (70, 16), (256, 128)])
@pytest.mark.parametrize("points", [None, "packed"])
def test_matmul_n_bits(bits, k, block, points):
    n, blocks = 37, -(-k // block)
    b = random.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    zero = None if points is None else random.integers(0, 256, (n * -(-blocks * bits // 8),)).astype(np.uint8)
    compare("MatMulNBits", [floats(2, 3, k), b, floats(n * blocks), zero], tolerance=2e-5, K=k, N=n, bits=bits, block_size=block)
    compare("MatMulNBits", [floats(3, k), b, floats(n * blocks), zero, None, floats(n)], tolerance=2e-5, K=k, N=n, bits=bits,
            block_size=block)


def test_matmul_n_bits_refuses_what_it_does_not_know():
    inputs = [floats(3, 64), np.zeros((5, 2, 16), np.uint8), floats(10)]
    refused("MatMulNBits", inputs, "bits is 3", K=64, N=5, bits=3, block_size=32)
    refused("MatMulNBits", inputs + [None, np.zeros(64, np.int32)], "g_idx", K=64, N=5, block_size=32)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved):
    positions, first = random.integers(0, 20, (2, 3)), np.array([4])
    cosines, sines = floats(20, 4), floats(20, 4)
    for ids in (positions, first):
        compare("RotaryEmbedding", [floats(2, 3, 24), ids, cosines, sines], interleaved=interleaved)
        compare("RotaryEmbedding", [floats(2, 3, 24), ids, cosines, sines], interleaved=interleaved, num_heads=3)
        compare("RotaryEmbedding", [floats(2, 5, 3, 8), ids, cosines, sines], interleaved=interleaved)
        compare("RotaryEmbedding", [floats(2, 3, 48), ids, cosines, sines], interleaved=interleaved, num_heads=3,
                rotary_embedding_dim=8)


def masks(batch, rows, keys):
    ones = np.ones((batch, keys), np.int32)
    ones[:, -2:] = 0
    each = random.integers(0, 2, (batch, rows, keys)).astype(np.int32)
    each[..., 0] = 1
    return [None, np.array([keys - 1, 2][:batch], np.int32), ones, each]


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention(causal, bias):
    more = {"num_heads": 2, "unidirectional": causal}
    for mask in masks(2, 4, 4):
        inputs = [floats(2, 4, 16), floats(2, 4, 16), floats(2, 4, 16), floats(48) if bias else None, mask]
        compare("MultiHeadAttention", inputs, **more)
        compare("MultiHeadAttention", inputs + [floats(2, 2, 4, 4)], scale=0.3, **more)
        compare("MultiHeadAttention", inputs + [floats(1, 1, 4, 4)], **more)
    if not causal:
        for mask in masks(2, 4, 6):
            compare("MultiHeadAttention", [floats(2, 4, 16), floats(2, 6, 16), floats(2, 6, 24), floats(56) if bias else None, mask],
                    **more)
        compare("MultiHeadAttention", [floats(2, 4, 16), floats(2, 2, 6, 8), floats(2, 2, 6, 8)], **more)
    cache = [None, None, floats(2, 2, 3, 8), floats(2, 2, 3, 8)]
    compare("MultiHeadAttention", [floats(2, 4, 16), floats(2, 4, 16), floats(2, 4, 16), floats(48) if bias else None] + cache,
            (True, True, True), **more)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention(causal):
    more = {"num_heads": 2, "unidirectional": causal}
    for mask in masks(2, 4, 4) + [np.array([4, 3, 1, 0], np.int32)]:
        inputs = [floats(2, 4, 10), floats(10, 48), floats(48), mask]
        compare("Attention", inputs, **more)
        compare("Attention", inputs, (True, True), scale=0.4, **more)
    compare("Attention", [floats(2, 4, 10), floats(10, 40), floats(40)], qkv_hidden_sizes=[8, 8, 24], **more)
    compare("Attention", [floats(2, 4, 10), floats(10, 48), floats(48), None, floats(2, 2, 2, 3, 8)], (True, True), **more)
    compare("Attention", [floats(2, 4, 10), floats(10, 48), floats(48), None, None, floats(2, 2, 4, 4)], **more)
    refused("Attention", [floats(2, 4, 10), floats(10, 48), floats(48)], "do_rotary", num_heads=2, do_rotary=1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("more", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}, {"local_window_size": 3},
                                  {"softcap": 1.5}, {"scale": 0.2}])
def test_group_query_attention(packed, more):
    more = {"num_heads": 4, "kv_num_heads": 2, **more}
    caches = [floats(16, 8), floats(16, 8)] if more.get("do_rotary") else []

    def operands(rows):
        if packed:
            return [floats(2, rows, 8 * 16), None, None]
        return [floats(2, rows, 64), floats(2, rows, 32), floats(2, rows, 32)]

    total = lambda n: np.array([n], np.int32)
    lengths = lambda *n: np.array(n, np.int32)
    outputs = (True, True, True)
    compare("GroupQueryAttention", operands(5) + [None, None, lengths(4, 4), total(5)] + caches, outputs, **more)
    past = [floats(2, 2, 6, 16), floats(2, 2, 6, 16)]
    compare("GroupQueryAttention", operands(1) + past + [lengths(6, 6), total(7)] + caches, outputs, **more)
    compare("GroupQueryAttention", operands(1) + [np.pad(p, ((0, 0), (0, 0), (0, 4), (0, 0))) for p in past]
            + [lengths(6, 4), total(7)] + caches, outputs, checked=1, **more)  # rows behind a sequence's end hold anything


def test_attentions_refuse_what_they_do_not_know():
    refused("GroupQueryAttention", [floats(1, 1, 64), floats(1, 1, 32), floats(1, 1, 32), None, None, np.zeros(1, np.int32),
                                    np.ones(1, np.int32)], "smooth_softmax", num_heads=4, kv_num_heads=2, smooth_softmax=1)
    refused("MultiHeadAttention", [floats(1, 1, 2, 3, 8), floats(1, 1, 16)], "no supported form", num_heads=2)
