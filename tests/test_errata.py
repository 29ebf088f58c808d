"""The errata: every correction has a number or a reason, and a page that there is."""

import dataclasses
import re

import pytest

from nas_core import theory
from nas_core.pages import cost_measures, errata, overview
from nas_core.pages.errata import NOT_RECORDED
from tests.conftest import ROOT
from tests.synthetic import runs

pytestmark = pytest.mark.xdist_group("errata")  # what is corrected is measured once
ROW = theory.Row("x", "Eq 1", "it is so", 4, 9, 0.5, 1.0, 1e-9, 5e8, 3)


@pytest.fixture(scope="module")
def corrections():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errata, "CASES", 4)
        patch.setattr(errata, "SMALL", range(1))
        patch.setattr(overview, "STACKS", range(2))
        patch.setattr(overview, "SEEDS", range(2))
        return errata.mathematics({}) + errata.experiments({})


def test_every_correction_has_a_number_or_says_why_not(corrections):
    without = [own for own in corrections if not re.search(r"\d", own.measured)]
    recorded = [own for own in without if own.measured == NOT_RECORDED]
    assert len(recorded) == 5 and len(without) == 6
    assert [own.measured for own in without if own not in recorded] == ["Nothing that a result holds depends on it."]


def test_a_wrong_statement_is_refuted_and_a_right_one_holds(corrections):
    said = " ".join(own.measured for own in corrections)
    assert "It fails in" in said and "not held" not in said and "fails in 0" not in said.replace("fails in 0 of 0", "")


def test_every_page_that_shows_a_correction_is_there(corrections):
    for own in corrections:
        pages = re.findall(r"\{doc\}`(\w+)`", own.where)
        assert pages and all(any((ROOT / "book").glob(f"{page}.*")) for page in pages), own


def test_table_has_a_row_a_correction_and_keeps_intervals_together(corrections):
    lines = errata.table(corrections).splitlines()
    assert len(lines) == 2 + len(corrections) and {line.count(" | ") for line in lines} == {3}
    assert not re.search(r"\[[−\d.e]+, [−\d.e]+\]", "".join(lines))


def test_a_row_of_checks_in_words():
    assert errata._refuted(ROW) == (
        "It fails in 3 of 4 random networks, by up to 0.50 where rounding and ε explain 1.0e−09."
    )
    good = dataclasses.replace(ROW, value=1e-12, used=0.1, failed=0)
    assert errata._held([good, good]) == "residual at most 1.0e−12, bound 1.0e−09, 18 comparisons"
    assert errata._held([good, ROW]).endswith("**not held**")


def test_recorded_corrections_follow_the_runs(monkeypatch):
    given = {cost_measures.TRAINED: runs(5)}
    monkeypatch.setattr(cost_measures, "one_seed", lambda group, expected: cost_measures.OneSeed(1, 2, 0.25, 0.1, 1.0))
    assert "25 % of the entries" in errata._one_seed(given)
    assert errata._said(errata._one_seed, {cost_measures.TRAINED: runs(1)}) == NOT_RECORDED
