"""The same 4,000 models of the differential fuzzer each time; `./check --long` runs it for long."""

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("onnx")
SCRIPT = pathlib.Path(__file__).with_name("fuzz_operators.py")


def test_smoke(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--models", "4000", "--seed", "1", "--own", "--out", tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
