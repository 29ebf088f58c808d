"""How long a chapter takes from nothing: every notebook at its smallest scale, with no recorded result to read."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

BOOK = Path(__file__).parents[1] / "book"
LIMIT = 60.0
"""Seconds that a chapter may take at its smallest scale."""


def names() -> list[str]:
    """The chapters that are notebooks, in the order of their files."""
    return sorted(path.stem for path in BOOK.glob("*.ipynb"))


def chapters(chosen: Sequence[str], options: Sequence[str] = ()) -> dict:
    """Seconds of ``papermill CHAPTER OUT -p scale tiny`` and the results that it computed, by chapter: the ``chosen`` ones
    one after the other, each from an empty store of its own and with the whole machine. A chapter that runs no search
    takes no scale.

    ``options`` are further arguments of papermill. A chapter that stops says why in ``failed``."""
    return {"limit": LIMIT, "chapters": {name: _timed(BOOK / f"{name}.ipynb", options) for name in chosen}}


def _timed(path: Path, options: Sequence[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAS_RESULTS_ROOT": str(Path(folder) / "results")}
        environment.pop("NAS_RESULTS", None)
        out = str(Path(folder) / "out.ipynb")
        # A chapter that runs no search has no scale.
        scale = ["-p", "scale", "tiny"] if "scale: str" in path.read_text(encoding="utf-8") else []
        command = [sys.executable, "-m", "papermill", str(path), out, *scale, *options]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--no-progress-bar"],
            cwd=BOOK.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
        return {"seconds": seconds, "results": len(list(Path(folder).rglob("*.npz")))}
