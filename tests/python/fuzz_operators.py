"""Differential fuzzing of single operators: random models of one ai.onnx node, by Ocior as it runs by default, by Ocior's reference
implementation of the operator and, where it can, by onnx's ReferenceEvaluator. All must agree, or Ocior must refuse by both ways.

  python fuzz_operators.py --seconds 60 --seed 1 --out /tmp/findings

A finding is printed with the model and the inputs that it was saved as; after a crash, `now.onnx` and `now.npz` are what crashed. Exit code: 0 nothing found, 1 findings, 2 wrong usage.
"""
import argparse
import faulthandler
import math
import pathlib
import random
import re
import signal
import sys
import time
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import ocior

warnings.simplefilter("ignore")
AttrType = onnx.defs.OpSchema.AttrType
# Graphs as attributes have tests of their own; random operators have no one right answer; the rest needs values of other kinds, or images.
LEFT_OUT = {"If", "Loop", "Scan", "SequenceMap", "ImageDecoder", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
            "Multinomial"}
TYPES = {f"tensor({name})": np.dtype(t) for name, t in {
    "float": np.float32, "double": np.float64, "float16": np.float16, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "bool": np.bool_, "string": object}.items()}
TYPES["tensor(bfloat16)"] = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
COMMON = ("tensor(float)", "tensor(float)", "tensor(double)", "tensor(float16)", "tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(bool)")
WORDS = {  # the documented values of text attributes; others are left at their default
    "auto_pad": ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"], "mode": ["constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic", "DCR", "CRD", "avg"],
    "approximate": ["none", "tanh"], "direction": ["forward", "reverse", "bidirectional", "LEFT", "RIGHT"], "reduction": ["none", "mean", "sum", "add", "mul", "min", "max"],
    "padding_mode": ["zeros", "border", "reflection"], "coordinate_transformation_mode": ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"],
    "nearest_mode": ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"], "equation": ["ij,jk->ik", "ij->ji", "i,i->", "...ij->...i", "ii->i"],
    "case_change_action": ["NONE", "LOWER", "UPPER"], "keep_aspect_ratio_policy": ["stretch", "not_larger", "not_smaller"]}
NUMBERS = {"keepdims": [0, 1], "axis": [-2, -1, 0, 1, 2], "group": [1, 1, 2], "to": [1, 6, 7, 10, 11, 2, 3, 9, 16], "dtype": [1, 6, 7, 10, 11], "blocksize": [1, 2],
           "largest": [0, 1], "sorted": [1], "ceil_mode": [0, 1], "count_include_pad": [0, 1], "exclusive": [0, 1], "reverse": [0, 1], "hidden_size": [2, 3],
           "noop_with_empty_axes": [0, 1], "transA": [0, 1], "transB": [0, 1], "fmod": [0, 1], "select_last_index": [0, 1], "upper": [0, 1], "allowzero": [0, 1]}
FLOATS = [0.0, 1.0, 0.5, -1.0, 0.01, 3.0]


class Generator:
    """Random models by the schemas of `onnx.defs`."""

    def __init__(self, seed, only):
        self.random, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.schemas = [s for s in onnx.defs.get_all_schemas_with_history()
                        if s.domain == "" and not s.deprecated and s.name not in LEFT_OUT and (not only or re.fullmatch(only, s.name))]
        by_name = {}
        for schema in self.schemas:
            by_name.setdefault(schema.name, []).append(schema)
        self.by_name = [by_name[name] for name in sorted(by_name)]
        self.newest = onnx.defs.onnx_opset_version()

    def shape(self):
        return [self.random.choice([0, 1, 1, 2, 3, 4, 5, 8, 17]) for _ in range(self.random.choice([0, 1, 1, 2, 2, 3, 4]))]

    def like(self, shape):
        """A shape that broadcasts with `shape`, or often enough one with other dimensions."""
        kind = self.random.random()
        if kind < 0.5:
            return list(shape)
        if kind < 0.85:
            return [1 if self.random.random() < 0.3 else d for d in shape[self.random.randint(0, len(shape)):]]
        return self.shape()

    def values(self, dtype, shape):
        if dtype == object:
            return self.numpy.choice(np.array(["", "a", "1", "Müde", "x y", "-2.5"], object), shape)
        kind = dtype.kind
        if kind == "b":
            return self.numpy.integers(0, 2, shape).astype(dtype)
        if kind == "u":
            return self.numpy.integers(0, self.random.choice([3, 10, 250]), shape).astype(dtype)
        if kind == "i":
            return self.numpy.integers(-self.random.choice([0, 3, 100]), self.random.choice([3, 10, 100]), shape).astype(dtype)
        x = np.asarray(self.numpy.standard_normal(shape) * self.random.choice([1, 1, 4]))
        if self.random.random() < 0.1 and x.size:
            x.flat[self.random.randrange(x.size)] = self.random.choice([math.nan, math.inf, -math.inf, 0.0, -0.0])
        return x.astype(dtype)

    def attribute(self, name, declared):
        """A value of the documented kind; None: leave it out."""
        kind = declared.type
        if kind == AttrType.INT:
            return self.random.choice(NUMBERS.get(name, [0, 1, 1, 2, 3]))
        if kind == AttrType.FLOAT:
            return self.random.choice(FLOATS)
        if kind == AttrType.INTS:
            few = {"axes": [-1, 0, 1, 2], "pads": [0, 0, 1, 2], "perm": [0, 1, 2, 3], "dilations": [1, 1, 2]}.get(name, [1, 2, 3])
            n = self.random.choice([1, 2, 2, 4] if name != "pads" else [2, 4, 4, 6])
            return self.random.sample(few, min(n, len(few))) if name in ("axes", "perm") else [self.random.choice(few) for _ in range(n)]
        if kind == AttrType.FLOATS:
            return [self.random.choice(FLOATS) for _ in range(self.random.randint(1, 4))]
        if kind == AttrType.STRING:
            return self.random.choice(WORDS[name]) if name in WORDS else None
        if kind == AttrType.TENSOR:
            dtype = self.random.choice([np.dtype(np.float32), np.dtype(np.int64)])
            return numpy_helper.from_array(self.values(dtype, self.random.choice([[], [1], [3]])))
        return None

    def model(self):
        """(schema, model, feeds), or None when the schema asks for values that are no tensors."""
        schema = self.random.choice(self.random.choice(self.by_name))
        later = [s.since_version for s in self.schemas if s.name == schema.name and s.since_version > schema.since_version]
        opset = self.random.randint(schema.since_version, min(later, default=self.newest + 1) - 1)
        chosen = {}
        base = self.shape()
        most = min(schema.max_input, schema.min_input + 3)
        inputs, feeds, constants, infos = [], {}, [], []
        for i in range(self.random.randint(schema.min_input, most) if schema.max_input else 0):
            formal = schema.inputs[min(i, len(schema.inputs) - 1)]
            optional = formal.option == onnx.defs.OpSchema.FormalParameterOption.Optional
            if optional and self.random.random() < 0.2:
                inputs.append("")
                continue
            possible = [t for t in formal.types if t in TYPES]
            if not possible:
                return None
            common = [t for t in COMMON if t in possible]
            type_name = chosen.get(formal.type_str) or self.random.choice(common if common and self.random.random() < 0.8 else sorted(possible))
            chosen[formal.type_str] = type_name
            name = f"x{i}"
            x = np.asarray(self.values(TYPES[type_name], base if i == 0 else self.like(base)))
            inputs.append(name)
            if self.random.random() < 0.3:
                constants.append(numpy_helper.from_array(x, name))
                continue
            feeds[name] = x
            dims = [d if self.random.random() < 0.5 else None for d in x.shape]
            infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), dims))
        while inputs and not inputs[-1]:
            inputs.pop()
        attributes = {}
        for name, declared in schema.attributes.items():
            if declared.required or self.random.random() < 0.35:
                value = self.attribute(name, declared)
                if value is not None:
                    attributes[name] = value
        outputs = [f"y{i}" for i in range(self.random.randint(schema.min_output, max(schema.min_output, min(schema.max_output, 4))))]
        node = helper.make_node(schema.name, inputs, outputs, name="fuzzed", **attributes)
        graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info(o) for o in outputs], constants)
        return schema, helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), feeds


def by_ocior(data, feeds, reference):
    """('ok', outputs) or ('refused', message)."""
    options = ocior.SessionOptions()
    options.add_session_config_entry("ocior.cache", "0")
    options.add_session_config_entry("ocior.reference", "1" if reference else "0")
    try:
        return "ok", ocior.InferenceSession(data, options).run(None, feeds)
    except Exception as e:  # every kind that the module raises
        return "refused", str(e)


class TooLong(Exception):
    pass


def by_onnx(model, feeds):
    """Outputs, or None where the evaluator cannot: it is slow, incomplete, and strict about nothing."""
    def stop(*_):
        raise TooLong
    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with np.errstate(all="ignore"):
            onnx.checker.check_model(model)
            onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            return ReferenceEvaluator(model).run(None, feeds)
    except (Exception, TooLong):
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def difference(want, got, loose):
    """What differs first, or ''. Floats: relative to the largest value of the tensor, by the precision of its type."""
    if isinstance(want, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(want):
            return f"a sequence of {len(want)}, got {type(got).__name__}"
        return next((f"element {i}: {d}" for i, d in enumerate(difference(w, g, loose) for w, g in zip(want, got)) if d), "")
    if want is None or got is None:
        return "" if want is got else f"{want!r}, got {got!r}"
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape:
        return f"shape {want.shape}, got {got.shape}"
    if want.dtype.kind in "OUST":
        return "" if [str(x) for x in want.ravel()] == [str(x) for x in got.ravel()] else "strings"
    if want.dtype != got.dtype:
        return f"type {want.dtype}, got {got.dtype}"
    if want.dtype.kind in "biu":
        bad = np.flatnonzero(want.ravel() != got.ravel())
        return f"[{bad[0]}]: {want.flat[bad[0]]}, got {got.flat[bad[0]]}" if bad.size else ""
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    tolerance = {4: 1e-5, 8: 1e-5 if loose else 1e-9, 16: 1e-9}.get(want.dtype.itemsize, 1.6e-2) if want.dtype != np.float16 else 4e-3
    w, g = want.astype(wide).ravel(), got.astype(wide).ravel()
    with np.errstate(all="ignore"):
        finite = np.isfinite(w)
        largest = np.abs(w[finite]).max(initial=0)
        near = np.abs(w - g) <= tolerance * max(largest, 1e-3)
        bad = np.flatnonzero(~((w == g) | (np.isnan(w) & np.isnan(g)) | (finite & np.isfinite(g) & near)))
    return f"[{bad[0]}]: {w[bad[0]]}, got {g[bad[0]]} (largest {largest:.4g})" if bad.size else ""


def judge(schema, model, feeds, skip_onnx):
    """What is wrong, or '' and whether it ran."""
    data = model.SerializeToString()
    (how, want), (other, got) = by_ocior(data, feeds, True), by_ocior(data, feeds, False)
    if how != other:
        return f"the reference says {how} and the default {other}: {want if how == 'refused' else got}", False
    if how != other or how == "refused":
        return "", False
    for i, (w, g) in enumerate(zip(want, got)):
        if d := difference(w, g, False):
            return f"output {i}: the reference gives {d} by default", True
    if not skip_onnx:
        theirs = by_onnx(model, feeds)
        for i, (w, g) in enumerate(zip(theirs or [], want)):
            if d := difference(w, g, True):
                return f"output {i}: onnx's evaluator gives {d}", True
    return "", True


def save(folder, name, model, feeds):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    onnx.save(model, f"{path}.onnx")
    np.savez(f"{path}.npz", **{k: v.astype(str) if v.dtype == object else v for k, v in feeds.items()})
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--models", type=int, metavar="N", help="stop after so many models, however long they take")
    parser.add_argument("--seed", type=int, default=1, help="which models (default: %(default)s)")
    parser.add_argument("--only", metavar="REGEX", help="operators to take")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("findings"), help="folder for findings (default: %(default)s)")
    parser.add_argument("--own", action="store_true", help="leave onnx's evaluator out")
    options = parser.parse_args()
    faulthandler.enable()
    generator, end = Generator(options.seed, options.only), time.monotonic() + options.seconds
    if not generator.schemas:
        parser.error(f"no operator matches {options.only}")
    made, ran, found, ran_of = 0, 0, {}, {}
    while made < options.models if options.models else time.monotonic() < end:
        case = generator.model()
        if case is None:
            continue
        schema, model, feeds = case
        made += 1
        save(options.out, "now", model, feeds)
        wrong, worked = judge(schema, model, feeds, options.own or schema.name in KNOWN)
        ran += worked
        ran_of[schema.name] = ran_of.get(schema.name, 0) + worked
        if not wrong:
            continue
        key = (schema.name, re.sub(r"[-\d.e+]+", "#", wrong)[:60])
        if key in found:
            continue
        found[key] = save(options.out, f"{schema.name}_{made}", model, feeds)
        node = model.graph.node[0]
        text = " ".join(helper.printable_attribute(a) for a in node.attribute)
        print(f"{schema.name}-{model.opset_import[0].version} ({text}): {wrong}\n  "
              f"{ {k: (str(v.dtype), v.shape) for k, v in feeds.items()} }\n  saved as {found[key]}.onnx and .npz", flush=True)
    print(f"{made} models, {ran} ran, of {sum(map(bool, ran_of.values()))} operators; {len(found)} findings")
    sys.exit(1 if found else 0)


# Where onnx's evaluator differs from the specification.
KNOWN = set()

if __name__ == "__main__":
    main()
