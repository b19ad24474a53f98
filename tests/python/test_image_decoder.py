"""ImageDecoder: every format and pixel format, the official files cut short and with flipped bits, and small files made by hand."""
import struct
import zlib

import numpy as np
import pytest
from onnx import TensorProto, helper

import ocior

FORMATS = ["bmp", "jpeg", "jpeg2k", "png", "pnm", "tiff", "webp"]


def session(pixel_format="RGB"):
    graph = helper.make_graph([helper.make_node("ImageDecoder", ["x"], ["y"], pixel_format=pixel_format)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n"])],
                              [helper.make_tensor_value_info("y", TensorProto.UINT8, ["h", "w", "c"])])
    return ocior.InferenceSession(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString())


def decode(data, pixel_format="RGB"):
    return session(pixel_format).run(None, {"x": np.frombuffer(bytes(data), np.uint8)})[0]


def official(name):
    data = pytest.importorskip("onnx.backend.test.case.node._image_decoder_data")
    case = getattr(data, f"image_decoder_decode_{name}_rgb")
    return np.asarray(case.data, np.uint8).tobytes(), np.asarray(case.output)


@pytest.mark.parametrize("name", FORMATS)
def test_official_files(name):
    data, want = official(name)
    tolerance = 1 if name == "jpeg2k" else 0
    rgb = decode(data)
    assert rgb.shape == want.shape and rgb.dtype == np.uint8
    assert np.abs(rgb.astype(int) - want).max() <= tolerance
    np.testing.assert_array_equal(decode(data, "BGR"), rgb[:, :, ::-1])
    luma = (rgb.astype(np.int64) @ [19595, 38470, 7471] + 0x8000) >> 16
    np.testing.assert_array_equal(decode(data, "Grayscale"), luma[:, :, None])


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_an_error_or_a_picture(name, capfd):
    data, want = official(name)
    run, draw = session(), np.random.default_rng(7)
    refused = 0

    def one(damaged):
        try:
            picture = run.run(None, {"x": np.frombuffer(bytes(damaged), np.uint8)})[0]
            assert picture.ndim == 3 and picture.shape[2] == 3
            return 0
        except Exception as e:
            assert "ImageDecoder" in str(e)
            return 1

    for length in [*range(0, 64), *draw.integers(64, len(data), 40)]:
        refused += one(data[:length])
    for _ in range(300):
        damaged = bytearray(data)
        for at in draw.integers(0, len(data) if draw.random() < 0.5 else min(len(data), 160), draw.integers(1, 4)):
            damaged[at] ^= 1 << draw.integers(0, 8)
        one(damaged)
    assert refused > 60
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


@pytest.mark.parametrize("name", FORMATS)
def test_half_a_file_is_refused(name):
    data, _ = official(name)
    with pytest.raises(Exception, match="cut short|damaged|fit|few"):
        decode(data[:len(data) // 2])


def bmp(width, height, bits, pixels, palette=b"", compression=0, masks=b"", colors=0):
    offset = 54 + len(masks) + len(palette)
    return (b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) +
            struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, colors, 0) + masks + palette + pixels)


def test_bmp_kinds():
    palette = bytes([3, 2, 1, 0, 6, 5, 4, 0])  # blue, green, red
    np.testing.assert_array_equal(decode(bmp(3, 1, 1, b"\x40\0\0\0", palette)), [[[1, 2, 3], [4, 5, 6], [1, 2, 3]]])
    np.testing.assert_array_equal(decode(bmp(2, 1, 4, b"\x10\0\0\0", palette, colors=2)), [[[4, 5, 6], [1, 2, 3]]])
    np.testing.assert_array_equal(decode(bmp(1, -2, 8, b"\x01\0\0\0\0\0\0\0", palette, colors=2)), [[[4, 5, 6]], [[1, 2, 3]]])
    np.testing.assert_array_equal(decode(bmp(1, 2, 8, b"\x01\0\0\0\0\0\0\0", palette, colors=2)), [[[1, 2, 3]], [[4, 5, 6]]])
    np.testing.assert_array_equal(decode(bmp(1, 1, 16, struct.pack("<I", 31 << 10 | 31))), [[[255, 0, 255]]])
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    np.testing.assert_array_equal(decode(bmp(1, 1, 16, struct.pack("<I", 63 << 5), compression=3, masks=masks)), [[[0, 255, 0]]])
    np.testing.assert_array_equal(decode(bmp(1, 1, 32, bytes([9, 8, 7, 77]))), [[[7, 8, 9]]])


def test_bmp_refusals():
    for data, message in [(bmp(1, 1, 8, b"\x02\0\0\0", bytes(8), colors=2), "colour 2"),
                          (bmp(1, 1, 7, b"\0\0\0\0"), "7 bits"), (bmp(4, 1, 8, b"\0" * 4, bytes(1024), compression=1), "compressed"),
                          (bmp(1, 1, 16, b"\0" * 4, compression=3, masks=struct.pack("<III", 5, 8, 16)), "one run of bits"),
                          (bmp(100000, 100000, 24, b""), "pixels"), (bmp(1000, 1000, 24, b""), "do not fit"),
                          (bmp(0, 1, 24, b""), "positive"), (b"BM" + bytes(12) + b"\xff\xff\xff\xff" + bytes(20), "header")]:
        with pytest.raises(Exception, match=message):
            decode(data)


def test_pnm_kinds():
    np.testing.assert_array_equal(decode(b"P1 # bits\n3 1\n01 0")[..., 0], [[255, 0, 255]])
    np.testing.assert_array_equal(decode(b"P4\n3 2\n\x40\xa0")[..., 1], [[255, 0, 255], [0, 255, 0]])
    np.testing.assert_array_equal(decode(b"P2 1 2 255 7\n9 ")[..., 2], [[7], [9]])
    np.testing.assert_array_equal(decode(b"P5 1 1 65535\n\xff\xff"), [[[255, 255, 255]]])
    np.testing.assert_array_equal(decode(b"P3 1 1 2 0 1 2\n"), [[[0, 128, 255]]])
    np.testing.assert_array_equal(decode(b"P6 1 1 255\n\1\2\3"), [[[1, 2, 3]]])


def test_pnm_refusals():
    for data, message in [(b"P6 2 2 255\n123", "too few"), (b"P6 2", "header"), (b"P5 1 1 0\n1", "largest value"),
                          (b"P2 1 1 3 x  ", "no value"), (b"P2 1 1 3 9  ", "no value"), (b"P5 0 1 9\n", "positive"),
                          (b"P6 999999999 999999999 255\n", "too few|pixels")]:
        with pytest.raises(Exception, match=message):
            decode(data)


def png(width, height, kind, rows, depth=8):
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_png_kinds():
    np.testing.assert_array_equal(decode(png(2, 1, 6, b"\0" + bytes([1, 2, 3, 0, 4, 5, 6, 128]))), [[[1, 2, 3], [4, 5, 6]]])
    np.testing.assert_array_equal(decode(png(2, 1, 0, b"\0\x09\xff")), [[[9] * 3, [255] * 3]])
    np.testing.assert_array_equal(decode(png(1, 1, 2, b"\0" + bytes([10, 0, 20, 0, 30, 0]), depth=16)), [[[10, 20, 30]]])


def test_a_small_file_cannot_ask_for_all_memory():
    with pytest.raises(Exception, match="at most"):
        decode(png(1_000_000, 1_000_000, 2, b"\0"))


def test_what_is_no_image():
    for data in (b"", b"x", b"hello, world", b"P7\n"):
        with pytest.raises(Exception, match="no image file that is known"):
            decode(data)
    with pytest.raises(Exception, match="pixel_format is 'CMYK'"):
        session("CMYK")
