"""The Python surface: sessions, feeds, options, errors."""
import os
import pathlib
import threading
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ocior


def mlp(path=None):
    """y = relu(x w + b), x [n, 3]."""
    w = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [1, 2, 3, 4, 5, 6])
    b = helper.make_tensor("b", TensorProto.FLOAT, [2], [-10, 1])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Add", ["t", "b"], ["u"]), helper.make_node("Relu", ["u"], ["y"])],
        "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])], [w, b])
    return save(graph, path)


def save(graph, path=None, opset=17):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if path is None:
        return model.SerializeToString()
    onnx.save(model, path)
    return path


X = np.array([[1, 2, 3], [-1, 0, 1]], np.float32)
Y = np.maximum(X @ np.array([[1, 2], [3, 4], [5, 6]], np.float32) + np.array([-10, 1], np.float32), 0)


def test_a_model_from_a_path_a_pathlike_and_bytes(tmp_path):
    path = mlp(str(tmp_path / "m.onnx"))
    for model in (path, pathlib.Path(path), mlp(), bytearray(mlp())):
        (y,) = ocior.InferenceSession(model).run(None, {"x": X})
        np.testing.assert_array_equal(y, Y)


def test_it_describes_itself():
    s = ocior.InferenceSession(mlp())
    (x,), (y,) = s.get_inputs(), s.get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["n", 3])
    assert (y.name, y.type, y.shape) == ("y", "tensor(float)", ["n", 2])
    assert s.get_providers() == ["CPUExecutionProvider"]
    assert s.get_modelmeta().graph_name == "mlp"
    assert "CPUExecutionProvider" in ocior.get_available_providers()


def test_arrays_that_are_not_contiguous():
    s = ocior.InferenceSession(mlp())
    wide = np.zeros((2, 6), np.float32)
    wide[:, ::2] = X
    for x in (wide[:, ::2], np.asfortranarray(X), X[::-1][::-1], X.tolist() and np.array(X.tolist(), np.float32)):
        np.testing.assert_array_equal(s.run(["y"], {"x": x})[0], Y)
    assert s.run(None, {"x": X[:0]})[0].shape == (0, 2)


def test_outputs_outlive_the_session():
    s = ocior.InferenceSession(mlp())
    (y,) = s.run(None, {"x": X})
    del s
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("feeds, names, error, text", [
    ({}, None, ocior.InvalidArgument, "Missing Input: x"),
    ({"q": X}, None, ocior.InvalidArgument, "Invalid input name: q"),
    ({"x": X}, ["z"], ocior.InvalidArgument, "Invalid output name: z"),
    ({"x": X[0]}, None, ocior.InvalidArgument, "Invalid rank for input: x Got: 1 Expected: 2"),
    ({"x": X[:, :2]}, None, ocior.InvalidArgument, "Got invalid dimensions for input: x for the following indices\n index: 1 Got: 2 Expected: 3"),
    ({"x": X.astype(np.float64)}, None, ocior.InvalidArgument, "Unexpected input data type. Actual: (tensor(double)) , expected: (tensor(float))"),
    ({"x": object()}, None, ocior.InvalidArgument, "pass a NumPy array"),
])
def test_wrong_feeds(feeds, names, error, text):
    with pytest.raises(error) as caught:
        ocior.InferenceSession(mlp()).run(names, feeds)
    assert text in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


def test_wrong_models(tmp_path):
    with pytest.raises(ocior.NoSuchFile) as caught:
        ocior.InferenceSession(str(tmp_path / "missing.onnx"))
    assert "missing.onnx" in str(caught.value)
    for name, content in {"empty": b"", "text": b"hello, this is no model", "cut": mlp()[:-20]}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(RuntimeError) as caught:
            ocior.InferenceSession(path)
        assert name in str(caught.value)


def test_unknown_operators_are_named():
    graph = helper.make_graph([helper.make_node("Reluu", ["x"], ["y"], name="r1")], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    with pytest.raises(ocior.NotImplemented) as caught:
        ocior.InferenceSession(save(graph))
    assert "r1" in str(caught.value) and "Reluu" in str(caught.value) and "Did you mean 'Relu'" in str(caught.value)


def test_a_cycle_is_named():
    graph = helper.make_graph([helper.make_node("Relu", ["b"], ["a"], name="one"), helper.make_node("Relu", ["a"], ["b"], name="two")], "g", [],
                              [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])])
    with pytest.raises(ocior.InvalidGraph, match="cycle"):
        ocior.InferenceSession(save(graph))


def test_external_data_stays_in_the_models_folder(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 24)
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load_from_string(mlp())
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key = "location"
    for location in ("../secret.bin", str(tmp_path / "secret.bin")):
        entry.value = location
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(RuntimeError) as caught:
            ocior.InferenceSession(folder / "m.onnx")
        assert "w" in str(caught.value)


def test_a_missing_provider_is_left_out_with_one_warning():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        s = ocior.InferenceSession(mlp(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
        s.run(None, {"x": X})
    assert len(seen) == 1 and "CUDAExecutionProvider" in str(seen[0].message)
    assert s.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ocior.InvalidArgument):
        ocior.InferenceSession(mlp(), providers=["CUDAExecutionProvider"])


def test_options():
    options = ocior.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("ocior.precision", "high")
    assert options.get_session_config_entry("ocior.precision") == "high"
    np.testing.assert_allclose(ocior.InferenceSession(mlp(), options).run(None, {"x": X})[0], Y, rtol=1e-5)
    options.add_session_config_entry("ocior.precision", "most")
    with pytest.raises(ocior.InvalidArgument, match="expected one of highest, high, medium"):
        ocior.InferenceSession(mlp(), options)


def test_an_unknown_kernel_table_is_refused():
    import subprocess
    import sys
    done = subprocess.run([sys.executable, "-c", "import ocior, sys; ocior.InferenceSession(sys.stdin.buffer.read())"], input=mlp(),
                          env=dict(os.environ, OCIOR_ISA="avx9"), capture_output=True)
    assert done.returncode == 1 and b"avx9" in done.stderr


def test_many_threads_run_one_session():
    s = ocior.InferenceSession(mlp())
    wrong = []

    def work(n):
        x = np.tile(X, (n, 1))
        for _ in range(100):
            if not np.array_equal(s.run(None, {"x": x})[0], np.tile(Y, (n, 1))):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_terminated_run_stops():
    options = ocior.RunOptions()
    options.terminate = True
    s = ocior.InferenceSession(mlp())
    with pytest.raises(ocior.Fail, match="terminate flag"):
        s.run(None, {"x": X}, options)
    options.terminate = False
    s.run(None, {"x": X}, options)


def test_shapes_that_only_a_run_knows():
    """NonZero sizes its output; Reshape's target is an input: both end a segment of the plan."""
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Transpose", ["at"], ["rows"], perm=[1, 0]),
         helper.make_node("Cast", ["rows"], ["f"], to=TensorProto.FLOAT), helper.make_node("Reshape", ["x", "target"], ["r"]),
         helper.make_node("Relu", ["r"], ["s"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"]), helper.make_tensor_value_info("target", TensorProto.INT64, ["k"])],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, None), helper.make_tensor_value_info("s", TensorProto.FLOAT, None)])
    s = ocior.InferenceSession(save(graph))
    rng = np.random.default_rng(0)
    for i in range(12):
        x = rng.standard_normal((2 + i % 3, 6)).astype(np.float32) * (rng.random((2 + i % 3, 6)) < 0.4)
        target = [-1] if i % 2 else [6, -1]
        f, y = s.run(None, {"x": x, "target": np.array(target)})
        np.testing.assert_array_equal(f, np.argwhere(x).astype(np.float32))
        np.testing.assert_array_equal(y, np.maximum(x.reshape(target), 0))


def test_branches_and_captured_values():
    def branch(op, name):
        return helper.make_graph([helper.make_node(op, ["x", "c"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["t"], then_branch=branch("Add", "yes"), else_branch=branch("Mul", "no")),
         helper.make_node("Neg", ["t"], ["y"])],
        "g", [helper.make_tensor_value_info("flag", TensorProto.BOOL, []), helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])], [helper.make_tensor("c", TensorProto.FLOAT, [1], [3])])
    s = ocior.InferenceSession(save(graph))
    for n in (1, 4, 2):
        x = np.arange(n, dtype=np.float32)
        np.testing.assert_array_equal(s.run(None, {"flag": np.array(True), "x": x})[0], -(x + 3))
        np.testing.assert_array_equal(s.run(None, {"flag": np.array(False), "x": x})[0], -(x * 3))


@pytest.mark.parametrize("first", ["then_branch", "else_branch"])
def test_branches_that_capture_different_values(first):
    """Whichever branch the file gives first, each reads its own captures."""
    def branch(value):
        return helper.make_graph([helper.make_node("Identity", [value], [value + "_out"])], value, [],
                                 [helper.make_tensor_value_info(value + "_out", TensorProto.FLOAT, None)])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    attributes = sorted(node.attribute, key=lambda a: a.name != first)
    del node.attribute[:]
    node.attribute.extend(attributes)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
                                            helper.make_tensor_value_info("a", TensorProto.FLOAT, [2]),
                                            helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])])
    feeds = {"a": np.array([1, 2], np.float32), "b": np.array([3, 4], np.float32)}
    s = ocior.InferenceSession(save(graph))
    np.testing.assert_array_equal(s.run(None, {"flag": np.array(True), **feeds})[0], feeds["a"])
    np.testing.assert_array_equal(s.run(None, {"flag": np.array(False), **feeds})[0], feeds["b"])


def test_an_index_out_of_range_names_the_node():
    graph = helper.make_graph([helper.make_node("Gather", ["t", "i"], ["y"], name="pick")], "g", [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])], [helper.make_tensor("t", TensorProto.FLOAT, [3], [1, 2, 3])])
    s = ocior.InferenceSession(save(graph))
    np.testing.assert_array_equal(s.run(None, {"i": np.array([2, -3])})[0], [3, 1])
    with pytest.raises(RuntimeError, match="pick"):
        s.run(None, {"i": np.array([0, 3])})
