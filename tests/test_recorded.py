"""What is recorded: every result made by today's code, and the verdicts that follow from them as committed.

After a change that is meant to move a verdict: `python -m tests.test_recorded`, and say in the commit why it moved.
"""

import functools
import json
import os
from pathlib import Path

import pytest

from nas_core.lab.store import State, Store, load
from nas_core.pages import bilevel_measures, claims, discussion, overview, verdicts

pytestmark = pytest.mark.xdist_group("recorded")  # all verdicts are judged once
GOLDEN = Path(__file__).parent / "golden" / "verdicts.json"


@functools.cache
def recorded() -> dict:
    """The runs behind the first page's table."""
    return overview.results()


@functools.cache
def judged() -> list[dict]:
    return claims.records(overview.judged(recorded()))


@pytest.fixture(autouse=True)
def only_read(monkeypatch):
    monkeypatch.setenv("NAS_RESULTS", "read")
    monkeypatch.delenv("NAS_RESULTS_ROOT", raising=False)


def test_every_recorded_result_is_fresh():
    states = {str(record.path.name): (record.state, record.reason) for record in Store().records()}
    assert states and all(state is State.FRESH for state, _ in states.values()), states


def test_the_chapter_s_experiments_have_five_seeds_and_say_where_they_come_from():
    for label in (*bilevel_measures.RECIPES, *verdicts.NOISE):
        own = recorded()[label]
        assert len(own) >= 5, label
        for run in own:
            assert run.meta["threads"] == 1 and run.meta["device"] and run.meta["torch"] and run.meta["seconds"] > 0
            assert len(run.meta["dataset"]["sha256"]) == 64
    assert {run.meta["dataset"]["name"] for label in bilevel_measures.RECIPES for run in recorded()[label]} == {
        "cifar10-jpeg"
    }


def test_the_discussion_has_the_first_page_s_numbers():
    """A claim read from other runs would have two numbers in one book."""
    first = {row["claim_id"]: row for row in judged()}
    found = [own for group in discussion.readings(discussion.collect("small")).values() for own in group]
    whole = [own.verdict for own in found if own.answer.measure == own.answer.claim]
    assert len(whole) > 10
    numbers = ("n", "estimate", "low", "high", "scale")
    for row in claims.records(whole):
        assert [row[name] for name in numbers] == [first[row["claim_id"]][name] for name in numbers], row["claim_id"]


def test_costs_add_up_in_every_recorded_run():
    """Theorem 2 on recorded numbers: in runs without skip between nodes, Σ C of the last cell is L − H to float32."""
    for run in recorded()[verdicts.FIXED]:
        total = run.arrays["edge_cost"][:, :, -1].sum(-1)
        # Evaluations use whole batches of equal size, so means over batches are means over images.
        assert abs(total - (run.arrays["loss"] - run.arrays["entropy"])).max() < 2e-4


def test_no_recorded_file_carries_a_path_of_a_machine():
    for path in Store().root.rglob("*.npz"):
        text = json.dumps(load(path).meta)
        assert not any(str(folder) in text for folder in (Path.home(), Path(__file__).parents[1]))


def test_verdicts_are_the_committed_ones():
    assert judged() == json.loads(GOLDEN.read_text(encoding="utf-8"))


if __name__ == "__main__":
    os.environ["NAS_RESULTS"] = "read"
    GOLDEN.write_text(json.dumps(judged(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
