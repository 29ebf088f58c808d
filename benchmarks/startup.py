"""How long it takes to begin: importing the library, and reading recorded results as a chapter does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

_IMPORT = """
import json, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import nas_core.search
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""

# What a chapter imports, and its call that reads.
_READ = """
import json, time
start = time.perf_counter()
from nas_core.lab.code import LabError
from nas_core.pages import figures, runs, tables, verdicts
from nas_core.pages.parameters import Parameters
recipes = {name: name for name in ("reference_darts_bilevel", "corrected_darts_single")}
imported = time.perf_counter()
try:
    found = runs.collect_recorded(Parameters(), recipes, say=lambda words: None)
    end = time.perf_counter()
    print(json.dumps([imported - start, end - imported, sum(map(len, found.values()))]))
except LabError as error:
    print(json.dumps(str(error).split(". ")[0]))
"""


def _run(script: str) -> list | str:
    """What a script prints, from a Python of its own that may not compute results."""
    environment = {**os.environ, "NAS_RESULTS": "read"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return json.loads(done.stdout.splitlines()[-1])


def startup(runs: int = 5) -> dict:
    """Medians of ``runs`` processes in seconds.

    ``torch``: its import alone; ``library``: ``import nas_core.search`` after it; ``read_import`` and ``read``: importing
    what a chapter imports, and collecting the recorded ``results`` of two recipes. Where they are not recorded by today's
    code, ``read_failed`` says so instead."""
    imports = [_run(_IMPORT) for _ in range(runs)]
    failed = [found for found in imports if isinstance(found, str)]
    if failed:
        return {"failed": failed[0]}
    found = {"n": runs} | {name: median(column) for name, column in zip(("torch", "library"), zip(*imports))}
    reads = [_run(_READ) for _ in range(runs)]
    failed = [read for read in reads if isinstance(read, str)]
    if failed:
        return found | {"read_failed": failed[0]}
    columns = [median(column) for column in zip(*reads)]
    return found | dict(zip(("read_import", "read", "results"), columns))
