"""The page of the library's functions: everything public is there, or left out for a reason."""

import ast
import re
from html import unescape

import pytest

from tests.conftest import ROOT

CORE = ROOT / "nas_core"
PAGE = ROOT / "book" / "api.md"

LEFT_OUT = {
    "engine": "inside of the supernet, explained on the page of the engine",
    "features": "inside of the supernet, explained on the page of the engine",
    "kernels": "inside of the supernet, explained on the page of the engine",
    "linear": "inside of the supernet, explained on the page of the engine",
    "memory": "inside of the supernet, explained on the page of the engine",
    "__init__": "defines nothing",
    "__main__": "a command, described in README.md",
}


def modules() -> list[str]:
    """The science modules by dotted name below nas_core."""
    flat = [path.stem for path in sorted(CORE.glob("*.py"))]
    theory = ["theory" if path.stem == "__init__" else f"theory.{path.stem}" for path in (CORE / "theory").glob("*.py")]
    return [*flat, *sorted(theory)]


def listed() -> list[str]:
    return re.findall(r"^\.\. automodule:: nas_core\.(\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def public(module: str) -> list[str]:
    """Public functions and classes with a docstring that a module itself defines, and such methods of the classes."""
    path = CORE.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = []
    for own in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(own, ast.FunctionDef | ast.ClassDef) and not own.name.startswith("_") and ast.get_docstring(own):
            names.append(own.name)
            names += [
                f"{own.name}.{method.name}"
                for method in own.body
                if isinstance(own, ast.ClassDef) and isinstance(method, ast.FunctionDef)
                and not method.name.startswith("_") and ast.get_docstring(method)
                and not any("setter" in ast.unparse(mark) for mark in method.decorator_list)
            ]  # fmt: skip
    return names


def test_every_science_module_is_listed_once_or_left_out_for_a_reason():
    named = listed()
    assert len(named) == len(set(named))
    assert {module for module in modules() if module not in named} == set(LEFT_OUT)
    assert {"lab.recipes", "lab.store", "lab.sweep", "audit"} <= set(named)


def test_page_says_what_it_leaves_out():
    words = PAGE.read_text(encoding="utf-8").split("## ")[0]
    assert [name for name in LEFT_OUT if not name.startswith("__") and f"`{name}`" not in words] == []


@pytest.fixture(scope="module")
def page(html) -> str:
    return (html / "api.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", listed())
def test_every_public_name_is_on_the_page(page, module):
    ids = set(map(unescape, re.findall(r'<dt[^>]*\bid="([^"]+)"', page)))
    assert [name for name in public(module) if f"nas_core.{module}.{name}" not in ids] == []


def test_signatures_have_types_and_docstrings_are_prose(page):
    text = unescape(re.sub(r"<[^>]+>", "", page))
    assert "log_alpha" in text and "Tensor" in text
    for leftover in ("``", ":func:", ":class:", ":meth:", "<function ", " object at 0x", "~nas_core", "<factory>"):
        assert leftover not in text, leftover
