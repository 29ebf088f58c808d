"""The README tells the truth: its Python runs, its commands exist, and its files are there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from nas_core.pages import picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_its_python_runs_from_top_to_bottom(tmp_path):
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch.Size([2, 5, 8])") and "(3, 1, 5, 8)" in done.stdout


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE))
def test_its_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_its_two_commands_are_the_first_it_shows():
    assert blocks("bash")[0].split("#")[0].strip() == "make book"
    assert "make test" in blocks("bash")[0]


def test_the_files_it_names_are_there():
    for name in re.findall(r"`((?:book|nas_core|results|tests)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_ci_calls_the_readme_s_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_picture_is_the_one_that_the_recorded_runs_give(monkeypatch, tmp_path):
    monkeypatch.setattr(picture, "PICTURE", tmp_path / "wiring.svg")
    monkeypatch.setenv("NAS_RESULTS", "read")
    picture.main()
    committed = ROOT / "book" / "_assets" / "wiring.svg"
    titles = [
        re.search("<title>(.*?)</title>", path.read_text(encoding="utf-8"))
        for path in (tmp_path / "wiring.svg", committed)
    ]
    assert titles[0][1] == titles[1][1], "run `python -m nas_core.pages.picture`"
    assert all(search in titles[1][1] for search in picture.SEARCHES)
    assert "(book/_assets/wiring.svg)" in README and committed.stat().st_size < 300_000


def test_the_citation_has_the_package_s_version_and_no_placeholder():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == project["version"] and str(cited["date-released"]) >= "2026-11-27"
    assert all(cited[name] for name in ("title", "abstract", "license", "authors", "references"))
