"""Writes the small model files beside this script with the official onnx package, for the tests of src/onnx.

Run once after a change: python make_models.py. The files are checked in, so that the tests need no Python.
"""

import pathlib

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

HERE = pathlib.Path(__file__).parent
F, I64, STR = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def save(model, name):
    (HERE / name).write_bytes(model.SerializeToString(deterministic=True))


def model_of(graph, **kwargs):
    kwargs.setdefault("opset_imports", [helper.make_opsetid("", 21)])
    return helper.make_model(graph, ir_version=10, producer_name="make_models.py", **kwargs)


def every_field():
    """Every message and attribute kind of onnx.proto that a Model keeps."""
    tensor = helper.make_tensor("t", F, [2], [1.5, -2.0])
    values = helper.make_tensor("sparse", F, [2], [3.0, 4.0])
    indices = helper.make_tensor("sparse_indices", I64, [2], [1, 5])
    sparse = helper.make_sparse_tensor(values, indices, [2, 3])
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [helper.make_tensor_value_info("y", F, None)])
    tensor_type = helper.make_tensor_type_proto(F, ["n", 3, None])
    map_type = helper.make_map_type_proto(I64, helper.make_tensor_type_proto(STR, []))
    node = helper.make_node(
        "Everything", ["x", "", "w"], ["y"], name="all", domain="test.ops", doc_string="node doc",
        f=0.5, i=-7, s=b"text\xff", t=tensor, g=inner, floats=[0.0, 1.0], ints=[-1, 0, 1 << 40], strings=["a", ""],
        tensors=[tensor, tensor], graphs=[inner, inner], sparse_tensor=sparse, sparse_tensors=[sparse],
        tp=tensor_type, tps=[tensor_type, map_type],
    )
    node.overload = "v2"
    node.metadata_props.add(key="k", value="v")
    node.attribute.add(name="empty_ints", type=AttributeProto.INTS, doc_string="attribute doc")
    body = helper.make_node("Everything", ["a"], ["b"], domain="test.ops")
    body.attribute.add(name="f", type=AttributeProto.FLOAT, ref_attr_name="alpha")
    function = helper.make_function(
        "test.ops", "Twice", ["a"], ["b"], [body, helper.make_node("Add", ["b", "b"], ["c"])],
        [helper.make_opsetid("", 21), helper.make_opsetid("test.ops", 1)], ["alpha"],
        [helper.make_attribute("beta", 2.0)], overload="o", value_info=[helper.make_tensor_value_info("b", F, ["n"])],
    )
    function.doc_string = "function doc"
    function.metadata_props.add(key="fk", value="fv")
    inputs = [
        helper.make_tensor_value_info("x", F, ["batch", 3, None]),
        helper.make_tensor_sequence_value_info("seq", I64, [1]),
        helper.make_value_info("opt", helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor_type))),
        helper.make_value_info("map", map_type),
        helper.make_sparse_tensor_value_info("sp", F, [4, 4]),
        helper.make_tensor_value_info("scalar", F, []),
        helper.make_tensor_value_info("unranked", F, None, doc_string="value doc"),
    ]
    graph = helper.make_graph(
        [node, helper.make_node("Twice", ["x"], ["z"], domain="test.ops", overload="o")], "main", inputs,
        [helper.make_tensor_value_info("y", F, None)], [helper.make_tensor("w", F, [1], [9.0])], "graph doc",
        [helper.make_tensor_value_info("z", F, ["batch"])], [sparse],
    )
    graph.metadata_props.add(key="gk", value="gv")
    graph.input[0].metadata_props.add(key="vk", value="vv")
    graph.initializer[0].metadata_props.add(key="tk", value="tv")
    model = model_of(graph, functions=[function], producer_version="1", domain="org.example", model_version=3, doc_string="model doc",
                     opset_imports=[helper.make_opsetid("ai.onnx", 21), helper.make_opsetid("test.ops", 1)])
    model.metadata_props.add(key="mk", value="mv")
    save(model, "every_field.onnx")


def payloads():
    """The same values once in the typed field of each type and once in raw_data (or string_data)."""
    integers = {n: getattr(TensorProto, n) for n in (
        "UINT8 INT8 UINT16 INT16 INT32 INT64 UINT32 UINT64 BOOL UINT4 INT4 UINT2 INT2").split()}
    floats = {n: getattr(TensorProto, n) for n in (
        "FLOAT FLOAT16 DOUBLE BFLOAT16 COMPLEX64 COMPLEX128 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT4E2M1").split()}
    signed = np.array([1, 0, -1, -2, 1], np.int64)
    typed, raw = [], []
    for name, dtype in {**integers, **floats}.items():
        values = np.abs(signed) % 2 if name == "BOOL" else np.abs(signed) if name.startswith("U") else signed
        np_dtype = helper.tensor_dtype_to_np_dtype(dtype)
        array = values.astype(np.float32).astype(np_dtype) if dtype in floats.values() else values.astype(np_dtype)
        typed.append(helper.make_tensor(name, dtype, [5], array.tolist() if name.startswith("COMPLEX") else array))
        raw.append(onnx.numpy_helper.from_array(array, name))
        assert raw[-1].data_type == dtype and raw[-1].HasField("raw_data") and not typed[-1].HasField("raw_data"), name
    strings = helper.make_tensor("STRING", STR, [2, 1], [b"\x00\xff", b""])
    empty = [helper.make_tensor("EMPTY", F, [3, 0], [])]
    for tensors, name in ((typed, "typed_data.onnx"), (raw, "raw_data.onnx")):
        save(model_of(helper.make_graph([], "payloads", [], [], tensors + [strings] + empty)), name)


def control_flow():
    def branch(name, value):
        constant = helper.make_node("Constant", [], [name], value=helper.make_tensor("c", F, [], [value]))
        return helper.make_graph([constant], name, [], [helper.make_tensor_value_info(name, F, [])])

    choose = helper.make_node("If", ["cond"], ["v"], then_branch=branch("a", 1.0), else_branch=branch("b", 2.0))
    body = helper.make_graph(
        [choose, helper.make_node("Identity", ["cond"], ["cond_out"]), helper.make_node("Add", ["v", "k"], ["scan"])], "body",
        [helper.make_tensor_value_info("i", I64, []), helper.make_tensor_value_info("cond", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []), helper.make_tensor_value_info("scan", F, [])],
        [helper.make_tensor("k", F, [], [3.0])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "start"], ["out"], body=body)], "loop",
        [helper.make_tensor_value_info("n", I64, []), helper.make_tensor_value_info("start", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("out", F, ["n"])],
    )
    model = model_of(graph)
    onnx.checker.check_model(model, full_check=True)
    save(model, "control_flow.onnx")


def external():
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    model = model_of(helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "external", [helper.make_tensor_value_info("x", F, [1, 2])],
        [helper.make_tensor_value_info("y", F, [1, 3])], [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(weights[0], "b")]))
    (HERE / "external.bin").write_bytes(b"\0" * 16 + weights.tobytes() + weights[0].tobytes())
    for tensor, offset, size in zip(model.graph.initializer, (16, 40), (24, 12)):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "external.bin"), ("offset", str(offset)), ("length", str(size)), ("checksum", "0")):
            tensor.external_data.add(key=key, value=value)
    save(model, "external.onnx")


def old_ir():
    """IR version 1: no opset import, attributes without a type."""
    node = helper.make_node("Thing", ["x"], ["y"], f=0.25, i=0, s="s", floats=[1.0], ints=[2, 3], strings=["q"],
                            t=helper.make_tensor("t", F, [1], [1.0]))
    for attribute in node.attribute:
        attribute.ClearField("type")
    graph = helper.make_graph([node], "old", [helper.make_tensor_value_info("x", F, [1])], [helper.make_tensor_value_info("y", F, [1])])
    model = helper.make_model(graph, ir_version=1)
    model.ClearField("opset_import")
    save(model, "old_ir.onnx")


every_field()
payloads()
control_flow()
external()
old_ir()
