"""Fixtures that several test modules share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# The same random cases in every run, so that a change decides whether the tests pass, and not luck. New ones are looked for with
# HYPOTHESIS_PROFILE=explore.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

ROOT = Path(__file__).resolve().parent.parent


ONCE_A_MODULE = {"soups", "printed"}
"""Fixtures that make something large of the built book: their tests stay together."""


def reads_the_book(item: pytest.Item) -> bool:
    return "html" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """The first reader of the built book comes first, so that it is built while other tests run, and the others come last."""
    readers = [item for item in items if reads_the_book(item)]
    items[:] = readers[:1] + [item for item in items if not reads_the_book(item)] + readers[1:]
    for item in readers[1:]:
        for name in ONCE_A_MODULE & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(name))


def build(folder: Path) -> subprocess.CompletedProcess:
    """Build the book that lies in `folder`, warnings as errors, from recorded results only."""
    environment = {**os.environ, "NAS_RESULTS": "read"}
    environment.pop("MPLBACKEND", None)  # the kernel chooses its own
    command = [Path(sys.executable).parent / "jupyter-book", "build", "book", "-W", "-n", "--keep-going"]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def built(shared: Path, make: Callable[[Path], subprocess.CompletedProcess] = build) -> Path:
    """The folder of the book's HTML, built once from a copy under ``shared`` by whichever process asks first; the others wait.

    It is a copy so that the working tree stays as it is. Where it could not be built, all of them learn why."""
    folder, said = shared / "book", shared / "book.log"
    with FileLock(shared / "book.lock"):
        if not said.exists():
            folder.mkdir()
            for name in ("_config.yml", "_toc.yml"):
                shutil.copy(ROOT / name, folder)
            ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
            shutil.copytree(ROOT / "book", folder / "book", ignore=ignored)
            result = make(folder)
            said.write_text(result.stdout if result.returncode else "", encoding="utf-8")
    if trouble := said.read_text(encoding="utf-8"):
        pytest.fail(f"The book does not build:\n{trouble[-6000:]}", pytrace=False)
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def html(tmp_path_factory) -> Path:
    """The folder of the book's HTML, one for all processes of a run."""
    own = tmp_path_factory.getbasetemp()
    return built(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
