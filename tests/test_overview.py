"""The first page: one scale a group of claims, and a sentence that counts."""

from types import SimpleNamespace

import pytest

from nas_core.pages import claims, overview, runs, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED


@pytest.mark.parametrize(
    ("small", "tiny", "scale"),
    [
        ((5, 5, 1, 0), (5, 2, 2, 2), "small"),
        ((5, 5), (5, 5, 5), "small"),
        ((5, 1), (5, 5), "tiny"),
        ((5, 1), (1, 5), "small"),
        ((), (), None),
    ],
)
def test_claims_judged_together_come_from_the_first_scale_that_tests_a_third_of_them(monkeypatch, small, tiny, scale):
    counts = {"small": small, "tiny": tiny}

    def recorded(parameters, recipes, say):
        given = zip(recipes, counts[parameters.scale], strict=False) if "a" in recipes else ()
        return {label: [parameters.scale] * count for label, count in given if count}

    monkeypatch.setattr(runs, "recorded", recorded)
    monkeypatch.setattr(overview, "taken_apart", lambda: {"noise": ["tiny"]})
    part = SimpleNamespace(RECIPES=dict.fromkeys("abcd", "recipe"))
    monkeypatch.setattr(verdicts, "PARTS", (part,))
    found = overview.results()
    assert {own[0] for label, own in found.items() if label in "abcd"} == ({scale} if scale else set())
    assert found["noise"] == ["tiny"]


def test_the_tally_counts_what_was_measured_and_keeps_the_papers_claims_apart():
    def verdict(direction, magnitude, claim_id="P1"):
        return claims.Verdict(claim_id, direction, magnitude, 5, 1.0, 0.5, 1.5, "", "", "small", "d")

    given = [verdict(REPRODUCED, PARTLY), verdict(REPRODUCED, REPRODUCED), verdict(NOT_REPRODUCED, NOT_REPRODUCED)]
    paper = (
        "Of 3 claims of the paper: in direction 2 reproduced, 1 not reproduced; "
        "in magnitude 1 reproduced, 1 partly, 1 not reproduced."
    )
    assert overview.tally([*given, claims.untested("P2", "")]) == paper
    both = overview.tally([*given, verdict(REPRODUCED, PARTLY, "B1"), verdict(NOT_REPRODUCED, PARTLY, "B2")])
    assert both == f"{paper} Of 2 that go beyond it: in direction 1 shown, 1 not shown; in magnitude 2 shown in part."


def test_identities_are_judged_without_recorded_runs_and_say_their_residual(monkeypatch):
    monkeypatch.setattr(overview, "SEEDS", range(1))
    monkeypatch.setattr(overview, "NETWORKS", [0, 1])
    monkeypatch.setattr(overview, "STACKS", range(2))
    judged, residuals = overview.identities()
    assert {own.claim_id for own in judged} == set(residuals) == set(claims.IDENTITIES)
    assert all(own.n and own.direction != NOT_TESTED for own in judged)
    assert all(words.startswith("residual ") and "(bound " in words for words in residuals.values())
    assert residuals["U-DARTS"].endswith("2 cases)") and residuals["C1.1"] != residuals["C1.2"]
