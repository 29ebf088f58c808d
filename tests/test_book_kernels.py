"""The kernels of a build: forks that compute for themselves, end with their notebook, and leave nothing behind; and what is kept
for the pages of one build."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nas_core.pages import kept
from tests.conftest import ROOT

sys.path.append(str(ROOT / "book" / "_extensions"))
import book_kernels

WAIT_S = 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def run(*cells, folder):
    """What the last of ``cells`` printed, in a kernel of its own that starts in ``folder``."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(own) for own in cells])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(own["text"] for own in notebook.cells[-1].outputs)


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    with book_kernels.offered(tmp_path_factory.mktemp("kernels")):
        yield


@pytest.mark.xdist_group("kernels")
@linux
def test_a_kernel_is_a_fork_with_its_imports_done_in_the_folder_and_environment_that_was_asked_for(
    offered, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAS_SAID", "a word")
    words = run(
        "import os, sys",
        "known = {'torch', 'nas_core.pages.overview'} <= set(sys.modules)",
        "beside = any('_extensions' in own for own in sys.path)",
        "print(known, beside, os.getcwd(), os.environ['NAS_SAID'], __name__)",
        folder=tmp_path,
    )
    assert words == f"True False {tmp_path} a word __main__\n"


@linux
def test_no_kernel_can_be_asked_for_before_the_imports_are_done(tmp_path):
    """Its ports are chosen when it is asked for; those of a kernel that waits may be taken."""

    def children():
        return {child for own in Path("/proc/self/task").glob("*/children") for child in own.read_text().split()}

    before = children()
    with book_kernels.offered(tmp_path):
        (nursery,) = children() - before
        assert "libtorch" in Path("/proc", nursery, "maps").read_text()


@pytest.mark.xdist_group("kernels")
def test_a_kernel_draws_its_figures_into_the_notebook(offered, tmp_path):
    words = run("import matplotlib", "print(matplotlib.get_backend())", folder=tmp_path)
    assert words == f"{book_kernels.BACKEND}\n"


@pytest.mark.xdist_group("kernels")
def test_a_kernel_knows_nothing_of_the_one_before(offered, tmp_path):
    assert run("import torch; torch.mine = 1; mine = 1", "print(torch.mine)", folder=tmp_path) == "1\n"
    words = run("import torch", "print(hasattr(torch, 'mine'), 'mine' in globals())", folder=tmp_path)
    assert words == "False False\n"


@pytest.mark.xdist_group("kernels")
def test_a_cell_that_fails_fails_the_notebook(offered, tmp_path):
    with pytest.raises(CellExecutionError, match="said so"):
        run("raise RuntimeError('said so')", folder=tmp_path)


@pytest.mark.xdist_group("kernels")
def test_what_a_notebook_starts_it_can_wait_for(offered, tmp_path):
    """The nursery does not ask how its children ended; a kernel does."""
    code = f"import subprocess; print(subprocess.run([{sys.executable!r}, '-c', 'raise SystemExit(3)']).returncode)"
    assert run(code, folder=tmp_path) == "3\n"


def alive(process_id):
    """Whether the process runs; one that has ended but was not taken back does not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(process_id):
    """Whether the process ends within some seconds."""
    end = time.monotonic() + WAIT_S
    while alive(process_id) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(process_id)


@linux
@pytest.mark.xdist_group("kernels")
def test_a_kernel_ends_with_its_notebook_and_with_whoever_asked_for_it(offered, tmp_path):
    assert gone(int(run("import os; print(os.getpid())", folder=tmp_path)))
    # The command that stands for a kernel is killed when a notebook takes too long: its fork must not go on computing.
    nursery = Path(os.environ["JUPYTER_PATH"].split(os.pathsep)[0]).parent / "nursery"
    connection = tmp_path / "connection.json"
    command = [sys.executable, book_kernels.__file__, "kernel", str(nursery), "-f", str(connection)]
    asked = subprocess.Popen(command)
    end = time.monotonic() + WAIT_S
    while not connection.exists() and time.monotonic() < end:
        time.sleep(0.05)
    forks = [
        int(own.name)
        for own in Path("/proc").iterdir()
        if own.name.isdigit() and alive(own.name) and _session(own) == int(own.name) and _parent(own) == _nursery()
    ]
    assert forks
    asked.send_signal(signal.SIGKILL)
    asked.wait()
    assert all(map(gone, forks))


def _field(process, place):
    return int((process / "stat").read_text().rpartition(")")[2].split()[place])


def _parent(process):
    return _field(process, 1)


def _session(process):
    return _field(process, 3)


def _nursery():
    """The nursery that this process has started; its forks have the same command, but another parent."""
    command = f"{book_kernels.__file__}\0nursery".encode()
    (found,) = (
        int(own.name)
        for own in Path("/proc").iterdir()
        if own.name.isdigit() and _parent(own) == os.getpid() and command in (own / "cmdline").read_bytes()
    )
    return found


@linux
def test_whoever_asks_at_once_is_heard(tmp_path):
    """The first notebook may ask before the nursery has begun."""
    with book_kernels.offered(tmp_path), socket.socket(socket.AF_UNIX) as line:
        line.connect(str(tmp_path / "nursery"))


@linux
def test_afterwards_jupyter_finds_its_own_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "before")
    with book_kernels.offered(tmp_path / "one"):
        assert os.environ["JUPYTER_PATH"] == f"{tmp_path / 'one' / 'jupyter'}{os.pathsep}before"
    assert os.environ["JUPYTER_PATH"] == "before"
    monkeypatch.delenv("JUPYTER_PATH")
    with book_kernels.offered(tmp_path / "two"):
        pass
    assert "JUPYTER_PATH" not in os.environ


def test_where_forking_is_not_safe_kernels_start_as_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("JUPYTER_PATH", "before")
    with book_kernels.offered(tmp_path):
        assert os.environ["JUPYTER_PATH"] == "before"
    assert list(tmp_path.iterdir()) == []


CALLED = []


@kept.kept
def computed(number, *, plus=0):
    CALLED.append(number)
    return number + plus


def test_what_is_kept_is_computed_once_a_build_and_for_the_same_arguments_only(tmp_path, monkeypatch):
    CALLED.clear()
    for folder in ("first", "second"):
        monkeypatch.setenv(kept.FOLDER, str(tmp_path / folder))
        assert [computed(1), computed(1), computed(2), computed(1, plus=1)] == [1, 1, 2, 2]
    assert CALLED == [1, 2, 1] * 2


def test_without_a_build_nothing_is_kept(monkeypatch):
    CALLED.clear()
    monkeypatch.delenv(kept.FOLDER, raising=False)
    assert [computed(1), computed(1)] == [1, 1]
    assert CALLED == [1, 1]
