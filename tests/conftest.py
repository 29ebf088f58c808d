"""Fixtures that several test modules share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same random cases in every run, so that a change decides whether the tests pass, and not luck. New ones are looked for with
# HYPOTHESIS_PROFILE=explore.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Under xdist, what reads the built book runs in one process, so that the book is built once."""
    for item in items:
        if "html" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("book"))


def build(folder: Path) -> subprocess.CompletedProcess:
    """Build the book that lies in `folder`, warnings as errors, from recorded results only."""
    environment = {**os.environ, "NAS_RESULTS": "read"}
    environment.pop("MPLBACKEND", None)  # the kernel chooses its own
    command = [Path(sys.executable).parent / "jupyter-book", "build", "book", "-W", "-n", "--keep-going"]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The folder of the book's HTML, built once from a copy, so that the working tree stays as it is."""
    folder = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    result = build(folder)
    if result.returncode:
        pytest.fail(f"The book does not build:\n{result.stdout[-6000:]}", pytrace=False)
    return folder / "_build" / "html"
