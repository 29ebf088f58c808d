"""Every notebook once, at its smallest, through papermill as a user would; and what papermill's users get wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "book").glob("*.ipynb"))
FEW = ["-p", "scale", "tiny", "-p", "epochs", "2", "-p", "images", "64", "-p", "minutes", "8", "-p", "workers", "1"]
"""One process a notebook: the tests have the cores."""
SMALL = {
    "01_introduction.ipynb": 6,
    "03_observations.ipynb": 8,
    "05_bilevel.ipynb": 6,
    "05_cost_assignment.ipynb": 4,
    "05_cost_estimators.ipynb": 1,
    "05_cost_statistics.ipynb": 8,
    "05_intermediate_edges.ipynb": 12,
    "A_evolution.ipynb": 4,
    "C_stacked_cells.ipynb": 4,
    "E_corollary.ipynb": 2,
    "G_ablations.ipynb": 14,
    "H_normalization_and_order.ipynb": 12,
}
"""The notebooks that run searches, and how many runs those options make of them."""
ONE_SEED = ("05_cost_estimators.ipynb", "G_ablations.ipynb", "H_normalization_and_order.ipynb")
"""Those of many recipes or long runs; two seeds of the others draw their intervals."""
ONE_NETWORK = (
    "02_background.ipynb",
    "04_unified_framework.ipynb",
    "B_unification.ipynb",
    "D_theorem1.ipynb",
    "F_theorem2.ipynb",
)
"""Those that measure random networks and run no search."""


def papermill(name, tmp_path, *options):
    env = os.environ | {"NAS_RESULTS_ROOT": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}
    env.pop("NAS_RESULTS", None)
    command = [
        sys.executable,
        "-m",
        "papermill",
        f"book/{name}",
        str(tmp_path / "out.ipynb"),
        "--no-progress-bar",
        *options,
    ]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)


def printed(tmp_path):
    notebook = nbformat.read(tmp_path / "out.ipynb", 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return outputs, "".join(output.get("text", "") for output in outputs)


def smallest(name: str) -> list[str]:
    """The options of a notebook's smallest run."""
    if name in SMALL:
        return [*FEW, "-p", "seeds", "[0]" if name in ONE_SEED else "[0, 1]"]
    if name in ONE_NETWORK:
        return ["-p", "seeds", "[0]"]
    return ["-p", "epochs", "2"] if name == "07_your_method.ipynb" else []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_tiny_run_of_every_notebook(name, tmp_path):
    done = papermill(name, tmp_path, *smallest(name))
    assert done.returncode == 0, done.stderr[-3000:]
    outputs, text = printed(tmp_path)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    if name in SMALL:
        assert re.search(r"\b\d+ runs?, about", text), "a live run prints its estimate"
        assert len(list((tmp_path / "results").rglob("*.npz"))) == SMALL[name]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["-p", "epoch", "50"], "unknown parameter 'epoch' (given 50)"),
        (["-p", "epochs", "0"], "epochs"),
        (["-p", "epochs", "[1, 2]"], "epochs"),
        (["-p", "epochs", "many"], "epochs"),
        (["-p", "scale", "huge"], "one of tiny, small, paper"),
        (["-p", "dataset", "imagenet"], "imagenet"),
        (["-p", "seeds", "[0, 0]"], "seeds"),
        (["-p", "label_noise", "1.5"], "label_noise"),
    ],
)
def test_a_wrong_parameter_is_one_clear_sentence(options, sentence, tmp_path):
    done = papermill("05_bilevel.ipynb", tmp_path, *options)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert sentence in last and last.startswith("ParameterError: ") and len(last) < 400, last
    assert not list((tmp_path / "results").rglob("*.npz"))
