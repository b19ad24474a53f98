"""The official ONNX node cases (onnx.backend.test) against the operators' references and CPU paths.

Each case becomes one model whose inputs and expected outputs are initializers; the program runs it and compares. Cases of operators that do
not exist yet are counted, not failed. Exit code: 0 all right, 1 a wrong result, 77 no onnx package.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import warnings

try:
    import numpy
    import onnx
    from onnx.backend.test.case.node import collect_testcases
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# Cases whose expected output is not the operator's result but an example of it (random numbers).
RANDOM = re.compile(r"^test_(bernoulli|randomuniform|randomnormal|multinomial)")

# Cases whose expected output is written down with four digits.
ROUNDED = re.compile(r"^test_(averagepool_2d_ceil_last_window_starts_on_pad|gridsample_bicubic|roialign_aligned_\w+)$")


def as_tensor(value, name):
    """The value as a TensorProto, or None when it is no tensor."""
    if isinstance(value, onnx.TensorProto):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    if isinstance(value, (list, dict)) or value is None:
        return None
    return onnx.numpy_helper.from_array(numpy.asarray(value), name)


def self_contained(case):
    """The case's model with inputs and expected outputs as initializers, or None when a value is no tensor."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    tensors = [as_tensor(value, info.name) for value, info in zip(inputs, model.graph.input)]
    tensors += [as_tensor(value, "expected_" + info.name) for value, info in zip(outputs, model.graph.output)]
    if any(t is None for t in tensors):
        return None
    del model.graph.input[:]
    model.graph.initializer.extend(tensors)
    return model


def write_cases(folder, only):
    os.makedirs(folder, exist_ok=True)
    paths, skipped = [], 0
    for case in collect_testcases(None):
        if not re.search(only, case.name) or RANDOM.match(case.name):
            continue
        model = self_contained(case)
        if model is None:
            skipped += 1
            continue
        path = os.path.join(folder, case.name + (".rounded.onnx" if ROUNDED.match(case.name) else ".onnx"))
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        paths.append(path)
    return paths, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the node_cases program")
    parser.add_argument("--folder", required=True, help="where the models are written")
    parser.add_argument("--only", default="", help="a regular expression of case names")
    parser.add_argument("--unknown", action="store_true", help="list the cases that could not be imported")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paths, skipped = write_cases(options.folder, options.only)
    counts, wrong, died = collections.Counter(), [], []
    for start in range(0, len(paths), 200):
        batch = paths[start:start + 200]
        done = subprocess.run([options.program, *batch], capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        for line in lines:
            name, verdict = line.split("\t", 1)
            kind = verdict.split(" ", 1)[0]
            counts[kind] += 1
            if kind == "wrong" or (kind == "unknown" and options.unknown):
                (wrong if kind == "wrong" else died).append(f"{os.path.basename(name)}: {verdict}")
        if done.returncode != 0:
            counts["crashed"] += 1
            wrong.append(f"{batch[min(len(lines), len(batch) - 1)]}: the program ended with {done.returncode}\n{done.stderr[-3000:]}")
    print("\n".join(died + wrong))
    print(f"{counts['ok']} right, {len(wrong)} wrong, {counts['unknown']} of operators or types that are missing, {skipped} without tensors")
    return 1 if wrong or not counts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
