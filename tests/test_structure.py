"""The house: imports point from pages to lab to the science modules, never back, and modules stay small."""

import ast
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import nas_core
from tests.conftest import built, reads_the_book

ROOT = Path(nas_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
RANK = {"lab": 1, "pages": 2}
SCIENCE_MAY_NOT = ("matplotlib", "seaborn", "papermill", "nbformat", "IPython", "joblib", "filelock")


def layer(module: str) -> int:
    """0 for a science module, 1 for the lab, 2 for the pages."""
    return RANK.get((module.split(".") + [""])[1], 0)


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import; write it out"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = layer(".".join(("nas_core", *path.relative_to(ROOT).with_suffix("").parts)))
    for name in imported(path):
        if name.split(".")[0] == "nas_core":
            assert layer(name) <= own, f"{path.name} imports {name}"
        elif own == 0:
            assert name.split(".")[0] not in SCIENCE_MAY_NOT, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_small_and_say_what_they_are(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"


def test_the_check_itself_sees_a_wrong_import(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from nas_core.pages import figures\n")
    assert any(layer(name) > 0 for name in imported(wrong))


def test_readers_of_the_book_come_last_and_one_of_them_first(request):
    """It is built while other tests run, and whoever reads it later does not wait."""
    first, *others = [reads_the_book(item) for item in request.session.items]
    assert others == sorted(others) and (first or not any(others))


def test_the_book_is_built_once_for_all_processes(tmp_path):
    builds = []

    def make(folder):
        builds.append(folder)
        time.sleep(0.2)
        return subprocess.CompletedProcess([], 0, stdout="all is well")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: built(tmp_path, make), range(4)))
    assert len(builds) == 1 and set(found) == {builds[0] / "_build" / "html"}
    assert (builds[0] / "book" / "index.md").exists()


def test_every_reader_of_a_book_that_does_not_build_learns_why(tmp_path):
    def make(folder):
        return subprocess.CompletedProcess([], 2, stdout="a warning, treated as an error")

    for _ in range(2):
        with pytest.raises(pytest.fail.Exception, match="a warning, treated as an error"):
            built(tmp_path, make)
