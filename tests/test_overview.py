"""The first page: one scale a group of claims, and a sentence that counts."""

from types import SimpleNamespace

import pytest

from nas_core.pages import claims, overview, runs, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, PARTLY, REPRODUCED


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
    monkeypatch.setattr(runs, "variations", lambda *given: {"noise": ["tiny"]})
    part = SimpleNamespace(RECIPES=dict.fromkeys("abcd", "recipe"))
    monkeypatch.setattr(verdicts, "PARTS", (part,))
    found = overview.results()
    assert {own[0] for label, own in found.items() if label in "abcd"} == ({scale} if scale else set())
    assert found["noise"] == ["tiny"]


def test_the_tally_counts_what_was_measured():
    def verdict(direction, magnitude, n=5):
        return claims.Verdict("P1", direction, magnitude, n, 1.0, 0.5, 1.5, "", "", "small", "d")

    given = [verdict(REPRODUCED, PARTLY), verdict(REPRODUCED, REPRODUCED), verdict(NOT_REPRODUCED, NOT_REPRODUCED)]
    assert overview.tally([*given, claims.untested("P2", "")]) == (
        "Of 3 claims that recorded runs speak to: in direction 2 reproduced, 1 not reproduced; "
        "in magnitude 1 reproduced, 1 partly, 1 not reproduced."
    )
