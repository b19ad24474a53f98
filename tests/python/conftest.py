"""Shared by the tests of the Python module. Graphs of real architectures come from the acceptance folder beside the checkout, when there."""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCEPT = pathlib.Path(os.environ.get("OCIOR_ACCEPT", ROOT.parent / "shared" / "accept"))


@pytest.fixture(scope="session")
def accept():
    """The acceptance folder's `graphs` module: fill(name) -> path of a runnable model, feeds(name, batch, length) -> inputs."""
    if not (ACCEPT / "graphs.py").exists():
        pytest.skip(f"{ACCEPT} is not here; set OCIOR_ACCEPT to the acceptance folder")
    sys.path.insert(0, str(ACCEPT))
    import graphs
    return graphs


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OCIOR_CACHE_DIR", str(tmp_path / "cache"))
