"""Notebooks in the one form that the repository keeps: no outputs, no counts, no traces of whoever ran them last.

``python -m nas_core.pages.notebooks [--check] [FILE ...]`` rewrites them (default: all of ``book/``); with ``--check`` it
only names those that it would rewrite. Exit code: 0 nothing to do, 1 rewritten or to be rewritten, 2 no notebook.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import ValidationError

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""Of every notebook. The version of Python and the like belong to the machine that ran it."""
CELL_METADATA = ("mystnb", "tags")
"""What the book reads of a cell's metadata; editors leave much more there."""


class NotebookError(ValueError):
    """A file that is no notebook."""


def normalised(text: str) -> str:
    """The notebook ``text`` in the repository's form, as the text of a file. Source is never changed.

    An id that is unique is kept, so that a cell that moves keeps its name; another becomes ``cell-00`` and so on, by the
    cell's place. Raises :class:`NotebookError` for what is no notebook of version 4."""
    try:
        content = json.loads(text)
        content |= {"metadata": METADATA, "nbformat_minor": 5}
        taken: set[str] = set()
        for place, cell in enumerate(content["cells"]):
            # Before nbformat reads it: that replaces an id that occurs twice by a random one.
            cell["id"] = _id(cell.get("id"), place, taken)
            taken.add(cell["id"])
            cell["metadata"] = {key: cell["metadata"][key] for key in CELL_METADATA if key in cell["metadata"]}
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        notebook = nbformat.reads(json.dumps(content), as_version=4)
        nbformat.validate(notebook)
    except (ValueError, ValidationError, AttributeError, KeyError, TypeError) as error:
        raise NotebookError(f"it is no notebook of version 4 ({str(error).splitlines()[0]})") from error
    return nbformat.writes(notebook) + "\n"


def _id(own: str | None, place: int, taken: set[str]) -> str:
    if own and own not in taken:
        return own
    names = (f"cell-{place:02d}{more}" for more in ("", *(f"-{number}" for number in range(1, len(taken) + 2))))
    return next(name for name in names if name not in taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Normalise the notebooks that are named, or only look; see the module for the exit code."""
    parser = argparse.ArgumentParser(prog="python -m nas_core.pages.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, name what would be changed")
    parser.add_argument("files", nargs="*", type=Path, help="notebooks; default: book/*.ipynb")
    options = parser.parse_args(arguments)
    changed = 0
    for path in options.files or sorted(Path("book").glob("*.ipynb")):
        try:
            before = path.read_text(encoding="utf-8")
            after = normalised(before)
        except (OSError, UnicodeDecodeError, NotebookError) as error:
            print(f"{path}: {error}; give the file of a Jupyter notebook", file=sys.stderr)
            return 2
        if after == before:
            continue
        changed += 1
        if not options.check:
            path.write_text(after, encoding="utf-8")
        print(
            f"{path}: {'is not in the form of this repository; run this without --check' if options.check else 'rewritten'}"
        )
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
