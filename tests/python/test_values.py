"""What enters and leaves a run: every element type and every kind of value."""
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ocior


def save(graph, opset=24):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=12).SerializeToString()


def session(graph, opset=24):
    return ocior.InferenceSession(save(graph, opset))


def same(elem_type, shape=None, opset=26):
    """y = x."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [helper.make_tensor_value_info("x", elem_type, shape)],
                              [helper.make_tensor_value_info("y", elem_type, shape)])
    return session(graph, opset)


SMALL = {
    "bfloat16": (TensorProto.BFLOAT16, "bfloat16"), "float8_e4m3fn": (TensorProto.FLOAT8E4M3FN, "float8e4m3fn"),
    "float8_e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, "float8e4m3fnuz"), "float8_e5m2": (TensorProto.FLOAT8E5M2, "float8e5m2"),
    "float8_e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, "float8e5m2fnuz"), "float8_e8m0fnu": (TensorProto.FLOAT8E8M0, "float8e8m0"),
    "float4_e2m1fn": (TensorProto.FLOAT4E2M1, "float4e2m1"), "int4": (TensorProto.INT4, "int4"), "uint4": (TensorProto.UINT4, "uint4"),
    "int2": (TensorProto.INT2, "int2"), "uint2": (TensorProto.UINT2, "uint2"),
}


@pytest.mark.parametrize("name", SMALL)
def test_types_of_ml_dtypes(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    elem_type, text = SMALL[name]
    dtype = getattr(ml_dtypes, name)
    s = same(elem_type)
    assert s.get_inputs()[0].type == s.get_outputs()[0].type == f"tensor({text})"
    values = np.array([1, 2, 4, 1, 2, 1, 4]) if name == "float8_e8m0fnu" else np.array([0, 1, -1, -2, 0, 1, -1])
    if name.startswith("u"):
        values = np.array([0, 1, 2, 3, 2, 1, 0])
    for x in (values.astype(dtype), values.astype(dtype)[:0], values.astype(dtype)[2].reshape(()), values.astype(dtype)[::2],
              values.astype(dtype)[:6].reshape(2, 3).T):
        (y,) = s.run(None, {"x": x})
        assert y.dtype == dtype and y.shape == x.shape
        np.testing.assert_array_equal(y.astype(np.float32), x.astype(np.float32))


def test_sub_byte_elements_keep_their_order():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name, elem_type, values in (("int4", TensorProto.INT4, np.arange(-8, 8)), ("uint4", TensorProto.UINT4, np.arange(16)),
                                    ("int2", TensorProto.INT2, np.arange(-2, 2)), ("uint2", TensorProto.UINT2, np.arange(4))):
        graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)], "g", [helper.make_tensor_value_info("x", elem_type, ["n"])],
                                  [helper.make_tensor_value_info("y", TensorProto.INT32, ["n"])])
        (y,) = session(graph, 26).run(None, {"x": values.astype(getattr(ml_dtypes, name))})
        np.testing.assert_array_equal(y, values)


def test_without_ml_dtypes_the_error_names_it():
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n"])])
    code = ("import sys; sys.modules['ml_dtypes'] = None\nimport numpy as np, ocior\n"
            "s = ocior.InferenceSession(bytes.fromhex(sys.argv[1]))\n"
            "try: s.run(None, {'x': np.ones(2, np.float32)})\nexcept ocior.NotImplemented as e: print(e)")
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code, save(graph).hex()], env=environment, capture_output=True, text=True)
    assert "install ml_dtypes" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("x", [
    np.array([["a", "bc"], ["", "ü\0z"]], object), np.array([["a", "bc"], ["", "xyz"]]), np.array(["a", None and "", "b"][::2], object), np.array("one", object)])
def test_strings(x):
    (y,) = same(TensorProto.STRING).run(None, {"x": x})
    assert y.dtype == object and y.shape == x.shape and y.tolist() == x.tolist()


def test_bytes_are_strings():
    (y,) = same(TensorProto.STRING).run(None, {"x": np.array([b"a", b"b\0c"], object)})
    assert y.tolist() == ["a", "b\0c"]
    (y,) = same(TensorProto.STRING).run(None, {"x": np.array([b"a", b"bc"])})
    assert y.tolist() == ["a", "bc"]
    with pytest.raises(ocior.InvalidArgument, match="strings only"):
        same(TensorProto.STRING).run(None, {"x": np.array([1, "a"], object)})
