"""Spelling, lint, layout and notebooks: the commands of the hooks in .pre-commit-config.yaml pass on the tree."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from nas_core.pages import notebooks
from tests.conftest import ROOT

BIN = Path(sys.executable).parent
HOOKS = {
    hook["id"]: hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repository["hooks"]
}


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """A command with the tools of this environment first."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("hook", "options"),
    [("ruff-check", []), ("ruff-format", ["--check"]), ("codespell", []), ("notebooks", ["--check"])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hook_has_nothing_to_say(hook, options):
    done = run(*shlex.split(HOOKS[hook]["entry"]), *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_hooks_fetch_nothing():
    text = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in text["repos"]} == {"local"}
    assert {hook["language"] for hook in HOOKS.values()} == {"system"}


def test_hooks_tools_are_pinned():
    pinned = {line.split("==")[0] for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()}
    assert {hook["entry"].split()[0] for hook in HOOKS.values()} - {"python"} | {"pre-commit"} <= pinned


@pytest.mark.parametrize("place", ["page.md", "code.py", "page.ipynb"])
def test_a_misspelling_is_found_wherever_prose_is(tmp_path, place):
    word = "oc" + "currence"  # in two parts, or this file would be at fault
    text = f"An {word.replace('rr', 'r')} of it.\n"
    if place.endswith(".ipynb"):
        text = nbformat.writes(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)]))
    (tmp_path / place).write_text(text if not place.endswith(".py") else f'"""{text.strip()}"""\n')
    done = run("codespell", "--toml", str(ROOT / "pyproject.toml"), place, folder=tmp_path)
    assert done.returncode != 0 and word in done.stdout


def ran() -> nbformat.NotebookNode:
    """A notebook as Jupyter leaves it behind."""
    output = nbformat.v4.new_output("stream", text="seen")
    code = nbformat.v4.new_code_cell("print('seen')", execution_count=3, outputs=[output], id="measure")
    code.metadata |= {"tags": ["hide-input"], "scrolled": True, "execution": {"iopub.status.busy": "2026-01-01"}}
    cells = [nbformat.v4.new_markdown_cell("# Title", id="title"), code, nbformat.v4.new_code_cell("2", id="other")]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python", "version": "3.12.1"}})
    made.cells[2]["id"] = "measure"  # afterwards: nbformat would replace an id that occurs twice
    return made


def test_notebook_that_was_run_is_cleaned_and_keeps_its_text(tmp_path, capsys):
    path, before = tmp_path / "page.ipynb", ran()
    path.write_text(json.dumps(before), encoding="utf-8")
    dirty = path.read_text(encoding="utf-8")
    assert notebooks.main(["--check", str(path)]) == 1 and path.read_text(encoding="utf-8") == dirty
    assert notebooks.main([str(path)]) == 1 and "rewritten" in capsys.readouterr().out
    after = nbformat.read(path, 4)
    nbformat.validate(after)
    assert [(cell.outputs, cell.execution_count) for cell in after.cells[1:]] == [([], None), ([], None)]
    assert [cell.id for cell in after.cells] == ["title", "measure", "cell-02"]
    assert [cell.source for cell in after.cells] == [cell.source for cell in before.cells]
    assert after.cells[1].metadata == {"tags": ["hide-input"]} and after.metadata == notebooks.METADATA
    clean = path.read_text(encoding="utf-8")
    assert notebooks.main([str(path)]) == 0 and path.read_text(encoding="utf-8") == clean


@pytest.mark.parametrize(
    "text", ["", "{}", "no JSON", '{"nbformat": 4, "nbformat_minor": 5, "cells": [{}], "metadata": {}}']
)
def test_what_is_no_notebook_is_refused_and_kept(tmp_path, capsys, text):
    path = tmp_path / "page.ipynb"
    path.write_text(text, encoding="utf-8")
    assert notebooks.main([str(path)]) == 2
    assert "give the file of a Jupyter notebook" in capsys.readouterr().err and path.read_text(encoding="utf-8") == text
