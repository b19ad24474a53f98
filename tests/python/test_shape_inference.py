"""What Ocior infers agrees with onnx.shape_inference: the same type and rank, no other dimensions, and none unknown that onnx knows.
OCIOR_LONG=1 adds all official cases and the large graphs of the acceptance folder; without, every eighth case and the small ones."""

import os
import pathlib

import pytest

onnx = pytest.importorskip("onnx")
from onnx.backend.test.loader import load_model_tests  # noqa: E402

import ocior  # noqa: E402
from conftest import ACCEPT  # noqa: E402

LONG = bool(os.environ.get("OCIOR_LONG"))
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
# Cases whose models onnx or Ocior takes more from than the standard says, and why.
LEFT_OUT = {
    "test_expand_dim_changed": "broadcasting with symbols gives Ocior symbols of its own",
    "test_expand_dim_unchanged": "broadcasting with symbols gives Ocior symbols of its own",
    "test_linear_attention_gated_delta_mqa_expanded": "a carried dimension of the loop is a symbol, where onnx takes the first value's",
    "test_loop11": "a scanned output without a declared shape has no known rank",
    "test_optional_get_element_optional_tensor": "shapes inside of optionals are never taken from declarations",
    "test_scan_sum": "the number of iterations is a symbol of its own where onnx propagates a declared size",
    **{f"test_expand_shape_model{i}": "broadcasting with symbols gives Ocior symbols of its own" for i in range(1, 5)},
    **{f"test_sequence_model{i}": "shapes inside of sequences are never taken from declarations" for i in (2, 3, 4, 5, 7)}}


def model_of(case):
    return case.model if case.model is not None else onnx.load(str(pathlib.Path(case.model_dir) / "model.onnx"))


def by_onnx(model):
    """Output name -> (elem_type, list of dimensions: int or None; None: no shape); tensors only. None: onnx itself refuses."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:  # what is declared is no inference
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    except Exception:
        return None
    out = {}
    for output in inferred.graph.output:
        if output.type.HasField("tensor_type"):
            tensor = output.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim] if tensor.HasField("shape") else None
            out[output.name] = (tensor.elem_type, dims)
    return out


def by_ocior(model):
    """The same by a session that is told nothing about its outputs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    options = ocior.SessionOptions()
    options.add_session_config_entry("ocior.cache", "0")
    options.add_session_config_entry("ocior.reference", "1")
    session = ocior.InferenceSession(bare.SerializeToString(), options)
    return {o.name: (o.type, o.shape) for o in session.get_outputs()}


def contradictions(model):
    want = by_onnx(model)
    if not want:
        return []
    try:
        got = by_ocior(model)
    except ocior.NotImplemented:
        return []
    wrong = []
    for name, (element, dims) in want.items():
        type_name, shape = got[name]
        if type_name != f"tensor({onnx.TensorProto.DataType.Name(element).lower()})":
            wrong.append(f"{name}: onnx infers {onnx.TensorProto.DataType.Name(element)}, Ocior {type_name}")
        if dims is None:
            continue
        known = [d if isinstance(d, int) else None for d in shape]
        if len(known) != len(dims):
            wrong.append(f"{name}: onnx infers {dims}, Ocior {shape}")
        elif any(w is not None and g != w for w, g in zip(dims, known)):
            wrong.append(f"{name}: onnx infers {dims}, Ocior {shape}")
    return wrong


def cases():
    every = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    return every if LONG else every[::8]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_official_case(case):
    if case.name in LEFT_OUT:
        pytest.skip(LEFT_OUT[case.name])
    assert not contradictions(model_of(case))


@pytest.mark.parametrize("path", sorted((ACCEPT / "graphs").glob("*.onnx")), ids=lambda path: path.stem)
def test_accepted_graph(accept, path):
    if not LONG and path.stat().st_size > 1 << 20:
        pytest.skip("OCIOR_LONG=1 runs it")
    assert not contradictions(onnx.load(accept.fill(path.stem)))
