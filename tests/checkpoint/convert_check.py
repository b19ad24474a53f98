#!/usr/bin/env python3
"""Converts checkpoint folders with a given program and compares the models with reference.npz in ONNX Runtime.

usage: convert_check.py PROGRAM [FOLDER...] [--below FOLDER_OF_FOLDERS] [--opsets 11,13,17,20,23] [--dtypes fp32,fp16]
PROGRAM is a command line to which `FOLDER OUT --opset N --dtype D` is appended after replacing {dir} and {out}, for example
`build/bin/convert_main {dir} {out}` or `build/bin/ocior convert {dir} -o {out}`. A FOLDER without reference.npz is only checked
for being a valid model that runs. Needs numpy, onnx and onnxruntime. Exits with 1 when anything differs.
"""
import argparse
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

TOLERANCE = {"fp32": 1e-5, "fp16": 2e-2}


def convert(program, folder, out, opset, dtype):
    words = [w.replace("{dir}", str(folder)).replace("{out}", str(out)) for w in shlex.split(program)]
    done = subprocess.run(words + ["--opset", str(opset), "--dtype", dtype], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"exit code {done.returncode}")


def invented_inputs(session):
    rng = np.random.default_rng(7)
    shape = (2, 9)
    values = {"input_ids": rng.integers(1, 100, shape), "attention_mask": np.ones(shape, np.int64),
              "token_type_ids": np.zeros(shape, np.int64)}
    values["attention_mask"][1, 6:] = 0
    return {i.name: values[i.name].astype(np.int64) for i in session.get_inputs()}


def check_interface(session):
    for i in session.get_inputs():
        assert i.type == "tensor(int64)" and i.shape == ["batch_size", "sequence_length"], (i.name, i.type, i.shape)
    for o in session.get_outputs():
        assert o.type == "tensor(float)" and o.shape[0] == "batch_size", (o.name, o.type, o.shape)


def compare(session, folder):
    path = folder / "reference.npz"
    names = [o.name for o in session.get_outputs()]
    if not path.exists():
        outputs = session.run(None, invented_inputs(session))
        assert all(np.isfinite(o).all() for o in outputs), "outputs are not finite"
        return 0.0
    reference = np.load(path)
    feeds = {k[3:]: reference[k] for k in reference.files if k.startswith("in:")}
    expected = {k[4:]: reference[k] for k in reference.files if k.startswith("out:")}
    assert sorted(expected) == sorted(names), f"outputs are {names}, expected {sorted(expected)}"
    assert sorted(feeds) == sorted(i.name for i in session.get_inputs()), "inputs differ"
    worst = 0.0
    for name, got in zip(names, session.run(None, feeds)):
        assert got.shape == expected[name].shape, f"{name} has shape {got.shape}, expected {expected[name].shape}"
        worst = max(worst, float(np.abs(got - expected[name]).max()))
    return worst


def run_longest_and_shortest(session, model):
    """The sequence may be as long as the position table and as short as one token."""
    longest = int({p.key: p.value for p in model.metadata_props}["max_position_embeddings"])
    for length in (1, longest):
        feeds = {i.name: np.ones((1, length), np.int64) for i in session.get_inputs()}
        feeds["input_ids"][:] = 3
        if "token_type_ids" in feeds:
            feeds["token_type_ids"][:] = 0
        session.run(None, feeds)


def check(program, folder, opset, dtype, scratch):
    out = scratch / f"{folder.name}-{opset}-{dtype}.onnx"
    convert(program, folder, out, opset, dtype)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
    check_interface(session)
    worst = compare(session, folder)
    run_longest_and_shortest(session, model)
    out.unlink()
    assert worst <= TOLERANCE[dtype], f"differs by {worst:.2e}, allowed {TOLERANCE[dtype]:.0e}"
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--below", action="append", default=[], type=pathlib.Path, help="every checkpoint folder in this one")
    parser.add_argument("--opsets", default="11,13,17,20,23")
    parser.add_argument("--dtypes", default="fp32,fp16")
    args = parser.parse_intermixed_args()
    folders = args.folders + [c.parent for root in args.below for c in sorted(root.glob("*/config.json"))]
    if not folders:
        parser.error("there is no checkpoint to convert")
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            for dtype in args.dtypes.split(","):
                results = []
                for opset in map(int, args.opsets.split(",")):
                    try:
                        results.append(f"{opset}: {check(args.program, folder, opset, dtype, pathlib.Path(scratch)):.1e}")
                    except Exception as fault:  # every kind of fault is a finding here
                        failures += 1
                        results.append(f"{opset}: FAILED {type(fault).__name__} {str(fault)[:400]}")
                print(f"{folder.name:32} {dtype}  " + "  ".join(results), flush=True)
    print("all agree" if not failures else f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
