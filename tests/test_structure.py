"""The house: imports point from pages to lab to the science modules, never back, and modules stay small."""

import ast
from pathlib import Path

import pytest

import nas_core

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


@pytest.mark.xdist_group("book")
def test_what_reads_the_built_book_runs_in_one_process(request):
    """The book takes minutes to build: under xdist it is built once, by the process that has all of its readers.

    This test is in the group itself, so that it sees the group where no reader was selected."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("this run has one process")
    readers = [item for item in request.session.items if "html" in getattr(item, "fixturenames", ())]
    assert [item.nodeid for item in (request.node, *readers) if not item.nodeid.endswith("@book")] == []
