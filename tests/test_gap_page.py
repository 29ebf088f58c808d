"""What opens the gap, and what tells how many edges survive: readings, early stopping, correlations and their words."""

import numpy as np
import pytest

from nas_core.lab.recipes import RECIPES
from nas_core.pages import gap, verdicts
from nas_core.pages.claims import NOT_REPRODUCED, REPRODUCED, unbroken
from nas_core.pages.evidence import BILEVEL, SINGLE, SINGLE_HELD_OUT
from tests import synthetic

FIRST, SECOND, THIRD = list(gap.VARIED)[:3]


def runs(kept, held, gap_at_end=0.25, ident="", **dials):
    """Five runs that end with these edges, this held-out cost and this gap, give or take a little with the seed."""
    own = synthetic.runs(5, kept=kept, held_cost=(0.4, held), **dials)
    for run in own:
        run.arrays["accuracy"][-1] = (0.5 + gap_at_end + 0.001 * run.meta["seed"], 0.5)
        run.meta["ident"] = ident or f"{kept} {held} {gap_at_end}"
    return own


def follows_the_gap():
    return {FIRST: runs(5, -1.0, 0.05), SECOND: runs(3, 0.1, 0.2), THIRD: runs(1, 1.2, 0.4), BILEVEL: runs(0, 1.3, 0.5)}


def follows_the_charge():
    """The gap goes the other way."""
    gaps = (0.5, 0.4, 0.2, 0.05)
    return {
        label: runs(kept, held, wide)
        for (label, kept, held), wide in zip(
            ((FIRST, 5, -1.0), (SECOND, 3, 0.1), (THIRD, 1, 1.2), (BILEVEL, 0, 1.3)), gaps, strict=True
        )
    }


def test_early_stopping_is_where_the_held_out_loss_is_lowest():
    own = runs(1, 1.2)
    for run, row in zip(own, range(5), strict=True):
        run.arrays["loss"][:, 1] = 2.0
        run.arrays["loss"][row, 1] = 1.0
    assert gap.stop(own).tolist() == [0, 1, 2, 3, 4]
    alive = gap.kept(own)
    assert alive.shape == gap.gaps(own).shape == gap.held_out_cost(own).shape
    assert (alive[:, 0] == 5).all() and (alive[:, -1] == 1).all()


def test_the_varied_settings_give_alpha_as_many_steps():
    """Else a small training set would keep its edges for want of steps."""
    steps = {}
    for label, given in gap.VARIED.items():
        config = RECIPES["reference_darts_bilevel"]("tiny")
        images = given.get("images", config.data.images) * config.data.held_out
        steps[label] = given.get("epochs", config.epochs) * -(-images // config.batch_size)
    assert max(steps.values()) <= 1.02 * min(steps.values()), steps


def test_the_charge_is_read_by_its_sign_over_epochs():
    own = runs(5, 0.0)
    for run in own:
        run.arrays["step_cost_mean"][:] = -1.0
        run.arrays["step_cost_mean"][:4] = 1.0
    assert gap.positive_epochs(own).tolist() == [0.2] * 5


def test_correlations_are_over_settings_within_a_seed():
    given = follows_the_gap()
    found = gap.within_seeds(gap.settings(given), gap.READINGS["generalisation gap"])
    assert len(found) == 5 and np.tanh(found) == pytest.approx([-1] * 5, abs=1e-3)
    given[FIRST] = given[FIRST][:3]
    assert len(gap.within_seeds(gap.settings(given), gap.READINGS["generalisation gap"])) == 3


def test_a_configuration_counts_once_and_only_held_out_images_count():
    twice = follows_the_gap() | {SINGLE_HELD_OUT: follows_the_gap()[BILEVEL], SINGLE: runs(5, -1.0)}
    assert list(gap.settings(twice)) == [FIRST, SECOND, THIRD, BILEVEL]
    assert list(gap.settings(twice, gap.CHARGED_OWN)) == [SINGLE]


def test_the_verdict_asks_the_gap_and_the_sentence_names_what_tells():
    yes, no = verdicts.judge("B2", follows_the_gap()), verdicts.judge("B2", follows_the_charge())
    assert (yes.direction, yes.magnitude) == (REPRODUCED, REPRODUCED) and yes.estimate == pytest.approx(-1, abs=1e-3)
    assert (no.direction, no.magnitude) == (NOT_REPRODUCED, NOT_REPRODUCED) and no.estimate > 0.9
    assert "The generalisation gap does not tell how many edges survive." in no.sentence
    assert "The share of epochs with a positive charged cost tells how many edges survive." in no.sentence
    assert "The generalisation gap tells" in yes.sentence
    few = {FIRST: runs(5, -1.0), SECOND: runs(1, 1.0)}
    assert "2 settings are recorded" in verdicts.judge("B2", few).sentence and "Too few" in gap.prediction(few)
    own = follows_the_charge() | {SINGLE: runs(5, -1.0, 0.6)}
    assert "With the 1 settings on θ's own batch" in gap.prediction(own)


def test_the_table_has_a_row_a_setting_and_pairs_early_stopping():
    given = follows_the_gap()
    for run in given[THIRD]:
        run.arrays["loss"][:, 1] = 2.0
        run.arrays["loss"][0, 1] = 1.0  # the held-out loss is lowest before training, where all edges are alive
    lines = gap.table(given).splitlines()
    assert len(lines) == 6 and lines[4].startswith(unbroken(f"| {THIRD} | 5 |"))
    assert lines[4].endswith(unbroken("| 1.00 [1.00, 1.00] | 4.00 [4.00, 4.00] |"))


def test_the_figure_has_a_point_a_run_in_both_panels_and_its_correlations():
    figure = gap.predictors(follows_the_charge() | {SINGLE: runs(5, -1.0, 0.6)})
    for axes in figure.axes:
        assert sum(len(line.get_xdata()) for line in axes.lines) == 25
        assert [line.get_markerfacecolor() == "white" for line in axes.lines] == [False] * 4 + [True]
    assert figure.axes[0].get_title(loc="left").startswith("ρ = 1.00") and "does not tell" in figure.get_label()
    assert not gap.predictors({}).axes[0].lines
