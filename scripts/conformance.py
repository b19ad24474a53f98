"""Writes docs/conformance.md and tests/official_misses.txt: what runs, and which official ONNX cases do not pass and why.

  python scripts/conformance.py --table build/bin/op_table --failures build/check/onnx_failures.json

--failures is what onnx_suite.py writes. Reasons that a person knows better than the message stand in tests/official_misses.txt and are kept.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import warnings

warnings.simplefilter("ignore")
ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE, MISSES = ROOT / "docs" / "conformance.md", ROOT / "tests" / "official_misses.txt"
HEAD = """# Conformance

Made by `scripts/conformance.py`. "CPU" says how the CPU provider runs an operator: with a *kernel* for the common element types and the reference
for the others, or by the *reference* alone. "Types" are the element types that the operator's samples test; "cases" are the official node cases
of the operator that pass, of all. Gradient is no operator of the engine: the import replaces it (`src/onnx/gradient.cpp`).

"""


def known_reasons():
    lines = MISSES.read_text().splitlines() if MISSES.exists() else []
    return dict(re.split(r"\s+", line, maxsplit=1) for line in lines if line and not line.startswith("#"))


def main():
    import onnx
    from onnx.backend.test.loader import load_model_tests
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--failures", required=True)
    options = parser.parse_args()
    failures = json.loads(pathlib.Path(options.failures).read_text())
    failed = {name.partition("/")[2] for name in failures}
    known = known_reasons()
    reasons = {}
    for name, message in sorted(failures.items()):
        case = name.partition("/")[2]
        plain = re.sub(r"\[ONNXRuntimeError\] : \d+ : |/\S*/site-packages/\S*/", "", message)
        reasons[case] = known.get(case) or re.sub(r"\s+", " ", plain).strip()[:160]
    MISSES.write_text("# Official ONNX cases that do not pass, and why; scripts/conformance.py keeps the list.\n" +
                      "".join(f"{case} {reason}\n" for case, reason in sorted(reasons.items())))

    cases, passed = collections.Counter(), collections.Counter()
    for case in load_model_tests(kind="node"):
        model = case.model if case.model is not None else onnx.load(str(pathlib.Path(case.model_dir) / "model.onnx"))
        for op in {("" if node.domain == "ai.onnx" else node.domain, node.op_type) for node in model.graph.node}:
            cases[op] += 1
            passed[op] += case.name not in failed

    ours = {}
    for line in subprocess.run([options.table], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        domain, name, since, how, types = line.split("\t")
        ours[domain, name] = (since, how, types)
    ours["ai.onnx.preview.training", "Gradient"] = ("1", "replaced at import", "")
    versions = collections.defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        versions[schema.domain, schema.name].add(schema.since_version)

    text = HEAD
    for domain in sorted({d for d, _ in list(ours) + list(versions)}):
        names = sorted({n for d, n in list(ours) + list(versions) if d == domain}, key=str.lower)
        there = sum((domain, n) in ours for n in names)
        text += f"## {domain or 'ai.onnx'}\n\n{there} of {len(names)} operators.\n\n"
        text += "| operator | versions in the standard | CPU | types | cases |\n|---|---|---|---|---|\n"
        for name in names:
            key = (domain, name)
            _, how, types = ours.get(key, ("", "missing", ""))
            listed = ", ".join(map(str, sorted(versions[key]))) if key in versions else "(own)"
            count = f"{passed[key]} / {cases[key]}" if cases[key] else ""
            text += f"| {name} | {listed} | {how} | {types} | {count} |\n"
        text += "\n"
    text += f"## Official cases that do not pass\n\n{len(reasons)} cases.\n\n| case | reason |\n|---|---|\n"
    text += "".join(f"| {case} | {reason.replace('|', chr(92) + '|')} |\n" for case, reason in sorted(reasons.items()))
    PAGE.write_text(text)
    print(f"{len(ours)} operators, {len(reasons)} official cases do not pass; wrote {PAGE.relative_to(ROOT)} and {MISSES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
