"""From parameters to runs: pairing, budgets, what is left out, and what a table says of it; on the real search, tiny."""

import re
from types import SimpleNamespace

import pytest

from nas_core.lab.recipes import RECIPES
from nas_core.lab.store import MissingResult
from nas_core.pages import runs, tables, verdicts
from nas_core.pages.parameters import ParameterError, Parameters

TINY = Parameters(scale="tiny", epochs=1, images=64, seeds=(0, 1), workers=1)
PAIR = {verdicts.BILEVEL: "reference_darts_bilevel", verdicts.SINGLE: "corrected_darts_single"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RESULTS_ROOT", str(tmp_path / "results"))
    monkeypatch.delenv("NAS_RESULTS", raising=False)
    return tmp_path / "results"


def files(root):
    return sorted(path.relative_to(root) for path in root.rglob("*.npz"))


def test_results_come_by_label_and_seed_and_are_computed_once(root):
    said = []
    results = runs.collect(TINY, PAIR, said.append)
    assert {label: [run.meta["seed"] for run in own] for label, own in results.items()} == {
        label: [0, 1] for label in PAIR
    }
    assert results[verdicts.BILEVEL][0].meta["config"]["level"] == "bi"
    assert results[verdicts.SINGLE][0].meta["config"]["data"]["images"] == 64
    assert "digits" in said[0] and any("about" in words for words in said)
    before = files(root)
    said.clear()
    runs.collect(TINY, PAIR, said.append)
    assert files(root) == before and len(said) == 1, "the second time it only reads"


def test_without_seeds_it_takes_those_recorded_for_every_recipe(root):
    from dataclasses import replace

    runs.collect(replace(TINY, seeds=(3, 5, 7)), {"a": "reference_darts_bilevel"}, lambda words: None)
    runs.collect(replace(TINY, seeds=(5, 7)), {"b": "corrected_darts_single"}, lambda words: None)
    results = runs.collect(replace(TINY, seeds=None), PAIR, lambda words: None)
    assert all([run.meta["seed"] for run in own] == [5, 7] for own in results.values())


def test_a_budget_cuts_the_seeds_of_all_labels_alike_and_says_so(root):
    from dataclasses import replace

    said = []
    results = runs.collect(replace(TINY, seeds=(0, 1, 2), minutes=1e-6), PAIR, said.append)
    assert all([run.meta["seed"] for run in own] == [0] for own in results.values())
    assert any("fewer seeds" in words for words in said)


def test_reading_refuses_what_is_not_recorded_and_names_the_command(root, monkeypatch):
    monkeypatch.setenv("NAS_RESULTS", "read")
    with pytest.raises(
        MissingResult, match=r"run reference_darts_bilevel --scale tiny --seeds 0-1 --epochs 1 --images 64"
    ):
        runs.collect(TINY, PAIR, lambda words: None)
    with pytest.raises(MissingResult):
        runs.collect_recorded(TINY, PAIR, lambda words: None)
    assert not root.exists() or not files(root)


def test_what_goes_beyond_the_claim_is_left_out_rather_than_computed(root):
    said = []
    assert runs.collect_recorded(TINY, PAIR, said.append) == {}
    assert len(said) == 2 and "left out" in said[0] and "python -m nas_core.lab run" in said[0]
    runs.collect(TINY, PAIR, lambda words: None)
    shares = {"no noise": 0.0, "as it is": 0.4}
    said.clear()
    found = runs.variations(TINY, "reference_darts_bilevel", "label_noise", shares, said.append)
    assert list(found) == ["as it is"] and "--label-noise 0.0" in said[0]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"images": 2}, "batch"),
        ({"images": 10**6}, "1500 training images"),
        ({"dataset": "imagenet"}, "imagenet"),
    ],
)
def test_a_value_that_the_recipe_cannot_take_is_one_sentence(root, change, reason):
    from dataclasses import replace

    with pytest.raises((ParameterError, RuntimeError), match=reason) as caught:
        runs.collect(replace(TINY, **change), PAIR, lambda words: None)
    assert "Traceback" not in str(caught.value)
    assert not root.exists() or not files(root)


def test_tables_show_every_experiment_and_every_departure(root):
    results = runs.collect(TINY, PAIR, lambda words: None)
    table = tables.outcomes(results)
    assert table.count("\n") == 3 and "| bi-level | 2 |" in table and " of 5 |" in table
    departures = tables.deviations(results)
    assert "| `data.images` | all | 64 | all |" in departures
    assert "| `data.size` | native |" in departures or "data.size" not in departures
    assert "weight_decay" not in departures and "sha256" not in departures
    times = tables.runtimes(results)
    assert "python -m nas_core.lab run corrected_darts_single --scale tiny --seeds 0-1`" in times
    alone = {label: own[1:] for label, own in results.items()}
    assert "python -m nas_core.lab run corrected_darts_single --scale tiny --seeds 1`" in tables.runtimes(alone)


def test_a_departure_of_many_runs_names_those_that_do_not_depart(root):
    (run, *_) = runs.collect(TINY, PAIR, lambda words: None)["single-level"]
    longer = SimpleNamespace(
        meta={**run.meta, "config": run.meta["config"] | {"epochs": RECIPES[run.meta["recipe"]]("paper").epochs}}
    )
    table = tables.deviations({"a": [run], "b": [longer], "c": [run]})
    assert re.search(r"\| `epochs` \|.*\| all but b \|", table) and re.search(r"\| `data.images` \|.*\| all \|", table)
    assert re.search(r"\| `epochs` \|.*\| a \|", tables.deviations({"a": [run], "b": [longer]}))
