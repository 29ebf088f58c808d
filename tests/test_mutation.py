"""One changed statement of a science module and the book refuses to build; a changed comment changes nothing."""

import shutil

from tests.conftest import ROOT, build
from tests.test_book import book_of_one_page

# What a chapter does first: its recorded runs are read, never computed.
CODE = """from nas_core.pages import parameters, runs
chosen = parameters.Parameters(scale="tiny")
found = runs.collect(chosen, {"DARTS": "reference_darts_bilevel"})
print("runs collected:", len(found["DARTS"]) > 0)"""


def test_a_changed_statement_stops_the_build_and_a_changed_comment_does_not(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "nas_core", tmp_path / "nas_core", ignore=shutil.ignore_patterns("__pycache__"))
    book_of_one_page(tmp_path, CODE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("NAS_RESULTS_ROOT", str(ROOT / "results"))
    module = tmp_path / "nas_core" / "cost.py"
    science = module.read_text(encoding="utf-8")

    module.write_text(f"# A comment more.\n{science}", encoding="utf-8")
    done = build(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "runs collected: True" in (tmp_path / "_build" / "html" / "index.html").read_text(encoding="utf-8")

    module.write_text(f"{science}\nCHANGED = 1\n", encoding="utf-8")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "is STALE: it was made before the code changed" in done.stdout
    assert "python -m nas_core.lab run reference_darts_bilevel --scale tiny" in done.stdout
