"""Section 3 and Appendix A on a page: readings on curves whose answer is known, verdicts that follow the numbers, tables
and figures for the runs that there can be."""

import dataclasses
import re

import numpy as np
import pytest

from nas_core import space
from nas_core.derive import Growth
from nas_core.lab.variations import ALPHA_FACTORS, CONTROLS, PHASE, SIZES, THETA_FACTORS, UNIVERSAL
from nas_core.pages import (
    evolution_figures,
    evolution_patterns,
    evolution_tables,
    phase_figures,
    replay,
    runs,
    style,
    summary,
    sweeps,
    verdicts,
)
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, unbroken
from nas_core.pages.evidence import BILEVEL, SINGLE, CannotTell
from nas_core.pages.evolution_measures import MEASURES, chosen_and_chance, edge_fates, failure_in, lag, single_level
from nas_core.pages.evolution_patterns import (
    BASELINE,
    BILEVEL_DEEP,
    CORRECTED,
    DSNAS_DEEP,
    NO_DECAY,
    ONLY_GRADIENT,
    PUBLISHED,
    RANDOM,
    RECIPES,
    SINGLE_DEEP,
    SNAS,
    crossing,
    overall,
)
from nas_core.pages.parameters import Parameters
from nas_core.space import NONE, OPERATIONS
from tests import synthetic

SEP = OPERATIONS.index("sep_conv_3x3")
DEAD, WIDE, FULL = ((), (0, 1, 2, 3), (0, 1, 2, 3, 4))


def course(*stages, epochs=20):
    """``[R, 1, E, K]``: the edges in a stage are alive in its part of the epochs, the stages of equal length."""
    probability = np.full((epochs + 1, 1, 5, len(OPERATIONS)), 0.04)
    for epoch in range(epochs + 1):
        kept = stages[min(epoch * len(stages) // (epochs + 1), len(stages) - 1)]
        for edge in range(5):
            probability[epoch, 0, edge, SEP if edge in kept else NONE] = 0.72
    return probability


def group(*stages, count=5, cost=None, extra=0.0, epochs=20, **dials):
    """Runs of the minimal cell through these stages. ``cost``: each epoch's cost of every operation; ``extra``: what the
    intermediate edge costs more, give or take a little with the seed."""
    made = []
    for run in synthetic.runs(count, epochs=epochs, **dials):
        arrays = dict(run.arrays) | {"probability": course(*stages, epochs=epochs)}
        if cost is not None:
            steps = np.zeros_like(arrays["step_cost_mean"])
            steps[..., 1:] = np.asarray(cost, dtype=float)[:, None, None, None]
            steps[:, :, 4, 1:] += extra * (1 + 0.1 * run.meta["seed"])
            arrays["step_cost_mean"] = steps
        made.append(synthetic.FakeResult(arrays, run.meta))
    return made


TURNING = np.where(np.arange(20) < 6, 0.5, -0.5)
"""Positive for six epochs of twenty."""


def as_the_paper(**labels):
    told = {"cost": TURNING, "extra": 0.1}
    grown = [group(FULL, DEAD, WIDE, WIDE, **told) for _ in range(5)]
    own = dict(zip((SNAS, PUBLISHED, CORRECTED, NO_DECAY, BASELINE), grown, strict=True))
    return own | {RANDOM: group(FULL, FULL)} | labels


def test_every_label_has_a_recipe():
    from nas_core.lab.recipes import RECIPES as known

    assert set(RECIPES.values()) <= set(known)


def test_an_edge_that_starts_without_a_lead_is_neither_dropped_nor_back():
    (run,) = group(WIDE, FULL, FULL, FULL, FULL, FULL, FULL, count=1, epochs=6)  # e4 is behind at epoch 0 alone
    assert evolution_patterns.fates(run)[4].dropped is None
    (late,) = group(FULL, WIDE, FULL, count=1, epochs=5)
    assert evolution_patterns.fates(late)[4] == Growth(2, 4)
    assert evolution_patterns.recovered([late]).tolist()[0][4] == 1
    assert np.isnan(evolution_patterns.recovered([late])[0, 0])


@pytest.mark.parametrize(
    ("cost", "epoch"),
    [
        ([1, 1, -1, -1], 2),
        ([1, -1, 1, 1, -1, -1, -1], 4),  # neither the first change of sign ...
        ([1, 1, -1, -1, -1, 1, -1], 2),  # ... nor the last
        ([-1, -1], 0),
        ([1, np.nan, np.nan, -1], 1),
    ],
)
def test_a_cost_turns_where_fewest_epochs_are_misplaced(cost, epoch):
    assert crossing(np.array(cost, dtype=float)) == epoch


def test_a_cost_that_stays_positive_never_turns():
    assert np.isnan(crossing(np.array([1.0, 1.0, -1.0, 1.0, 1.0])))


def test_the_charge_is_summed_over_cells():
    (run,) = group(FULL, count=1, cost=np.ones(20))
    assert evolution_patterns.charged([run])[0, 3] == pytest.approx([2 * 0.96] * 5)  # P(none) is 0.04


def test_width_needs_more_than_equal_counts():
    """Five seeds that keep the four input edges show width. Five that keep one input edge each differ as surely by their
    interval, which has no width, but a third of all such fives do so by chance."""
    assert evolution_patterns.width_of(group(FULL, WIDE)).direction == REPRODUCED
    single = evolution_patterns.width_of(group(FULL, (0,)))
    assert set(single.values) == {0.25} and single.direction == NOT_REPRODUCED


@pytest.mark.parametrize("claim_id", ["P1", "P2", "R3", "B3", "B7"])
def test_runs_as_in_the_paper_reproduce_it(claim_id):
    verdict = MEASURES[claim_id](as_the_paper())
    assert verdict.direction == REPRODUCED, verdict
    assert verdict.magnitude == REPRODUCED or claim_id == "R3", verdict


def test_both_halves_of_p1_are_judged_alone():
    cases = {
        (FULL, DEAD, WIDE): (REPRODUCED, REPRODUCED, REPRODUCED),
        (FULL, DEAD, DEAD): (REPRODUCED, NOT_REPRODUCED, PARTLY),
        (FULL, (0, 1), WIDE): (PARTLY, REPRODUCED, REPRODUCED),
        (FULL, WIDE, WIDE): (NOT_REPRODUCED, NOT_REPRODUCED, PARTLY),  # one edge of five is not all
        (FULL, FULL, FULL): (NOT_REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED),
        (WIDE, FULL, FULL): (NOT_REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED),  # growth without a drop
    }
    for stages, expected in cases.items():
        own = evolution_patterns.growth_of(group(*stages))
        assert (*own.parts, own.direction) == expected, stages


def test_p1_needs_seeds_and_p2_both_classes():
    assert evolution_patterns.growth_of(group(FULL, DEAD, WIDE, count=3)).direction == NOT_TESTED
    assert evolution_patterns.width_of(group(FULL, FULL)).direction == NOT_REPRODUCED
    one = synthetic.runs(5, cell=space.Cell("one", 2, 1, (space.Edge(0, 2), space.Edge(1, 2)), (2,)))
    with pytest.raises(CannotTell, match="one class"):
        evolution_patterns.width_of(one)


def test_one_outcome_over_many():
    assert overall([REPRODUCED, REPRODUCED]) == REPRODUCED
    assert overall([REPRODUCED, NOT_TESTED]) == PARTLY
    assert overall([PARTLY, PARTLY, REPRODUCED]) == PARTLY
    assert overall([PARTLY, NOT_REPRODUCED, NOT_REPRODUCED]) == NOT_REPRODUCED
    assert overall([NOT_TESTED, NOT_TESTED]) == NOT_TESTED


def test_a_framework_that_differs_lowers_the_verdict():
    mixed = as_the_paper() | {CORRECTED: group(FULL, FULL), PUBLISHED: group(FULL, FULL)}
    verdict = MEASURES["P1"](mixed)
    assert verdict.direction == NOT_REPRODUCED and "1 of 3 frameworks" in verdict.sentence
    assert MEASURES["P1"](mixed | {PUBLISHED: group(FULL, DEAD, WIDE)}).direction == PARTLY


def test_recovery_is_dated_against_the_cost():
    order = {SNAS: group(FULL, DEAD, WIDE, cost=TURNING)}  # back at 14, turned at 6
    found = [own for own in edge_fates(order) if own.dropped]
    assert len(found) == 25 and {own.crossed for own in found} == {6.0}
    verdict = MEASURES["R1"](order)
    assert verdict.direction == REPRODUCED and verdict.estimate == pytest.approx(8.0)
    late = {SNAS: group(FULL, DEAD, WIDE, cost=np.where(np.arange(20) < 17, 0.5, -0.5))}
    assert MEASURES["R1"](late).direction == NOT_REPRODUCED
    never = {SNAS: group(FULL, DEAD, WIDE, cost=np.ones(20))}
    assert MEASURES["R1"](never).estimate == pytest.approx(14 - 20)
    with pytest.raises(CannotTell, match="no recovery to date"):
        MEASURES["R1"]({SNAS: group(FULL, DEAD, DEAD, cost=TURNING)})


def test_recovery_is_dated_in_the_sweeps_too_and_each_run_once():
    runs_of_snas = group(FULL, DEAD, WIDE, cost=TURNING)
    given = {SNAS: runs_of_snas, "corrected_universal_snas": runs_of_snas}
    given["corrected_phase_alpha0.1_theta0.03"] = group(FULL, DEAD, FULL, cost=TURNING[1:], epochs=19)
    assert set(single_level(given)) == {SNAS, "phase diagram"}
    assert {own.label for own in edge_fates(given)} == {SNAS, "phase diagram"} and len(edge_fates(given)) == 50
    assert "of 45 edges that were dropped and came back" in MEASURES["R1"](given).sentence
    given["corrected_universal_bilevel"] = group(FULL, DEAD, FULL, cost=TURNING[2:], epochs=18)
    assert len(edge_fates(given)) == 50, "bi-level search is not the claim"


def test_extra_cost_is_that_of_the_intermediate_edge_into_the_same_node():
    cost, lived = lag(group(FULL, WIDE, cost=TURNING, extra=0.3))
    assert cost.shape == (5, 1) and cost[:, 0] == pytest.approx([0.3 * (1 + 0.1 * seed) for seed in range(5)])
    assert lived[:, 0] == pytest.approx([0.5] * 5, abs=0.03)
    cheap = as_the_paper() | {
        label: group(FULL, DEAD, WIDE, cost=TURNING, extra=-0.1) for label in (SNAS, PUBLISHED, CORRECTED)
    }
    assert MEASURES["R3"](cheap).direction == PARTLY  # P2 without R2


def test_top_two_is_held_against_blind_choice():
    weak = np.full((5, 8), 0.05)
    for edge, strength in enumerate((0.6, 0.6, 0.6, 0.5, 0.3)):
        weak[edge, SEP] = strength
    made = [
        dataclasses.replace(run, arrays=dict(run.arrays) | {"probability": weak[None, None]})
        for run in synthetic.runs(5)
    ]
    chosen, chance = chosen_and_chance(made)
    assert chosen.tolist() == [0] * 5 and chance == pytest.approx(2 / 3)
    verdict = MEASURES["G-topk"]({BILEVEL: made})
    assert (verdict.direction, verdict.magnitude) == (REPRODUCED, REPRODUCED)
    weak[4, SEP] = 0.9
    assert MEASURES["G-topk"]({BILEVEL: made}).direction == NOT_REPRODUCED


def test_random_reward_that_shows_the_pattern_too_speaks_against_it():
    blind = as_the_paper() | {RANDOM: group(FULL, DEAD, WIDE)}
    assert MEASURES["B7"](blind).direction == NOT_REPRODUCED


def test_the_rules_of_derivation_are_compared_on_the_last_alpha():
    verdict = MEASURES["B4"]({SNAS: group(FULL, DEAD, WIDE)})
    assert "likeliest 1 of 1" in verdict.sentence and 0 <= verdict.estimate <= 1
    table = evolution_tables.rules(group(FULL, WIDE))
    assert table.splitlines()[2].startswith(
        unbroken("| likeliest | 4.00 [4.00, 4.00] | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00]")
    )


def test_the_gradient_is_compared_alone_where_that_is_recorded():
    given = as_the_paper()
    assert "clamped rewards and idle weights differ as well" in MEASURES["B3"](given).sentence
    given[ONLY_GRADIENT] = group(FULL, FULL)
    sentence = MEASURES["B3"](given).sentence
    assert f"Against {ONLY_GRADIENT} it changes the difference of P2 by 1.00" in sentence
    assert MEASURES["B3"](given).direction == REPRODUCED, "the scripts' gradient is not what is asked about"


def test_a_sweep_is_judged_row_by_row():
    names = list(UNIVERSAL)
    rows = {name: group(FULL, DEAD, WIDE) for name in names[:2]} | {names[2]: group(FULL, FULL)}
    with pytest.raises(CannotTell, match="3 are recorded"):
        MEASURES["P-univ"](rows)
    verdict = MEASURES["P-univ"](rows | {name: group(FULL, DEAD, WIDE) for name in names[3:6]})
    assert verdict.direction == PARTLY and verdict.n == 6 and f"of {len(names)} planned" in verdict.sentence
    lines = evolution_tables.universal(rows).splitlines()
    assert len(lines) == len(names) + 2 and sum("not recorded" in line for line in lines) == len(names) - 3
    assert lines[2].endswith("| reproduced | reproduced | – |")
    assert lines[4].endswith("| not reproduced | not reproduced | – |")


def test_a_sweep_looks_for_p3_in_bilevel_settings_only():
    names = list(UNIVERSAL)
    bilevel = [name for name in names if UNIVERSAL[name].bilevel]
    assert len(bilevel) >= 5
    rows = {name: group(FULL, DEAD, WIDE) for name in names[:5]} | {bilevel[0]: group(FULL, DEAD)}
    rows |= {SINGLE: group(FULL, FULL)}
    sentence = MEASURES["P-univ"](rows | {bilevel[1]: group(DEAD, FULL)}).sentence
    assert "P1 holds in 5 of 5" in sentence and "single-level control) in 1 of 2 bi-level" in sentence
    with pytest.raises(CannotTell, match="1 of them single-level"):
        MEASURES["P-univ"]({name: group(FULL, DEAD) for name in (names[0], *bilevel)})
    last = [line for line in evolution_tables.universal(rows).splitlines() if "bi-level DARTS" in line][0]
    assert last.endswith(unbroken("| – | – | −1.00 [−1.00, −1.00] reproduced |"))


def test_p3_has_one_rule_and_a_setting_is_held_against_its_own_control():
    varied = next(iter(CONTROLS))
    rows = {BILEVEL: group(FULL, (0, 1)), SINGLE: group(FULL, FULL), varied: group(FULL, (0, 1))}
    rows["corrected_universal_bilevel"] = rows[BILEVEL]
    told = verdicts.judge("P3", rows)
    assert failure_in(rows, "corrected_universal_bilevel")[0].direction == told.direction == REPRODUCED
    own, its_own = failure_in(rows, varied)
    assert own.direction == REPRODUCED and not its_own, "the control of DARTS as it is stands in"
    assert unbroken("−0.60 [−0.60, −0.60]* reproduced") in evolution_tables.universal(rows)
    own, its_own = failure_in(rows | {CONTROLS[varied]: group(FULL, (0, 1))}, varied)
    assert own.direction == NOT_REPRODUCED and its_own
    assert failure_in({varied: group(FULL)}, varied) == (None, False)
    assert "no control recorded" in evolution_tables.universal({varied: group(FULL)})


def point(name, *stages, cost=TURNING, variance=0.0, count=2, rate=0.01, epochs=20):
    """Runs of one point, ten draws an operation and epoch, with costs of this mean and variance."""
    made = []
    for run in group(*stages, cost=cost, count=count, cells=1, initial_cost=0.5, noise=0.0, epochs=epochs):
        arrays = dict(run.arrays)
        arrays["step_cost_variance"] = np.full_like(arrays["step_cost_mean"], variance)
        alpha = {"initial_mean": 1.0, "initial_std": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.0}
        config = run.meta["config"] | {"alpha": alpha | {"learning_rate": rate * PHASE[name].alpha}}
        made.append(synthetic.FakeResult(arrays, run.meta | {"config": config}))
    return made


def phase_runs(name, cost, *, epochs, count):
    """Runs of one point of this many epochs with these costs."""
    return point(name, FULL, cost=cost, count=count, epochs=epochs)


def name_of(alpha, theta):
    return f"corrected_phase_alpha{alpha:g}_theta{theta:g}"


def test_the_way_to_go_is_the_largest_of_seven_normals():
    draws = np.random.default_rng(0).normal(size=(200_000, 7)).max(axis=1).mean()
    assert sweeps.distance(8, 1.0) == pytest.approx(draws, abs=0.01)
    assert sweeps.distance(2, 0.01) == pytest.approx(0, abs=1e-9)  # one other: as often ahead as behind


def test_the_positive_phase_is_read_from_the_recorded_cost():
    found = sweeps.phase(point(name_of(0.03, 0.1), FULL), 0.03)
    assert found.epochs == pytest.approx(6.0) and not found.lasting
    assert found.steps == pytest.approx(6 * 80) and found.rate == pytest.approx(0.01)
    # Without noise a step is worth √(7/8) of itself; with a spread of as much as the mean, 1/√2 of that.
    assert found.even == pytest.approx(480 * np.sqrt(7 / 8))
    noisy = sweeps.phase(point(name_of(0.03, 0.1), FULL, variance=0.25), 0.03)
    assert noisy.even == pytest.approx(found.even / np.sqrt(2))
    assert noisy.ratio(1.0, False) == pytest.approx(0.01 * 480 / sweeps.distance(8, 0.01))
    assert noisy.ratio(noisy.boundary(True), True) == pytest.approx(1)
    assert sweeps.phase(point(name_of(0.03, 0.1), FULL, cost=np.full(20, -0.1)), 0.03).even == 0
    assert sweeps.phase(point(name_of(0.03, 0.1), FULL, cost=np.full(20, 0.1)), 0.03).lasting


def some_points():
    return {
        name_of(0.03, 1.0): point(name_of(0.03, 1.0), FULL, FULL, cost=np.full(20, -0.5)),
        name_of(1.0, 1.0): point(name_of(1.0, 1.0), FULL, FULL, cost=np.full(20, -0.5), count=3),
        name_of(0.03, 0.03): point(name_of(0.03, 0.03), FULL, DEAD, WIDE),
        name_of(10.0, 0.03): point(name_of(10.0, 0.03), FULL, DEAD, DEAD),
    }


EXPECTED = {(0.03, 1.0): 0.0, (1.0, 1.0): 0.1, (0.03, 0.03): 0.9, (10.0, 0.03): 1.0}


def test_errors_of_a_prediction():
    error, alone, rank = sweeps.agreement({1: 0.0, 2: 0.5, 3: 1.0}, {1: 0.1, 2: 0.2, 3: 0.9})
    assert (error, alone, rank) == pytest.approx((0.5 / 3, 1 / 3, 1.0))
    assert np.isnan(sweeps.agreement({1: 0.0, 2: 0.0, 3: 0.0}, {1: 0.1, 2: 0.2, 3: 0.9})[2])


def test_alpha_replayed_answers_the_recorded_cost():
    name = name_of(1.0, 0.03)
    for cost, expected in ((0.5, 1.0), (-0.5, 0.0)):
        alive = replay.replayed(phase_runs(name, [cost] * 2, epochs=2, count=2), [0.02, 0.05], repeats=4)
        assert alive.shape == (2, 4, 3, 5) and 1 - alive[:, :, -1].mean() == expected
    turning = phase_runs(name, [0.5, -0.5, -0.5], epochs=3, count=2)
    first, again = (replay.replayed(turning, [0.02], repeats=4) for _ in range(2))
    course = 1 - first[0].mean(axis=(0, 2))
    assert course[1] == 1 > course[-1], "dropped while the cost is positive, and back after"
    assert (first == again).all()


def test_a_replay_fills_in_what_was_never_drawn():
    (run,) = phase_runs(name_of(1.0, 0.03), [0.5, 0.5], epochs=2, count=1)
    run.arrays["step_cost_mean"][1, 0, 0, SEP] = np.nan
    mean, _, steps = replay._records([run], 2)
    assert mean[0, 1, 0, SEP] == 0.5 and steps == 80


def test_a_minimum_is_read_from_as_many_runs_as_were_recorded():
    alive = np.ones((2, 4, 5))
    alive[0, 1], alive[1, 2] = 0, 0  # each run is at its lowest where the other is whole
    assert replay.share_dropped(alive, 2) == 0
    assert replay.share_dropped(alive, 1) == 1


def test_replays_are_there_for_every_point():
    points = {key: runs for key, runs in sweeps.grid(some_points()).items() if key[1] == 0.03}
    told = sweeps.replays(points)
    assert set(told) == set(points) and told[10.0, 0.03] > 0.9


def test_the_phase_diagram_shows_what_there_is_and_says_what_is_not():
    figure = phase_figures.phase_diagram(some_points())
    words = [text.get_text() for text in figure.axes[0].texts]
    assert sum(text == "not\nrecorded" for text in words) == len(PHASE) - 4
    assert "1.00\nn = 2" in words and "0.00\nn = 3" in words
    assert "4 of 24 points" in figure.get_label()
    star = figure.axes[0].lines[-1]
    assert star.get_label() == "the paper's two rates" and star.get_xdata()[0] == ALPHA_FACTORS.index(0.03)


def test_what_the_data_say_is_computed():
    points = sweeps.grid(some_points())
    sentences = sweeps.findings(points, dict.fromkeys(points, 0.5))
    assert "all edges are dropped together at 2" in sentences[0] and "2 to 3 seeds" in sentences[0]
    assert "θ × 0.03, read at α × 0.03;" in sentences[1] and "θ × 1, read at α × 0.03." in sentences[1]
    # At θ × 1 the cost is positive for the first instant alone, which counts in full but is never recorded as a mean.
    assert "75 %" in sentences[2] and "100 %" in sentences[3]
    assert "one and the same answer for all of them would be at 50 %" in sentences[2] and "So this" not in sentences[2]
    assert "misses the measured share by 0.50 on average; taking the mean" in sentences[4]
    assert sentences[5].startswith(
        "The map's point of the paper's rates (α × 0.03, θ × 1) drops 0 % of the edges (n = 2)"
    )
    assert sweeps.findings({}, {}) == ["No point of the phase diagram is recorded yet."]


def test_a_sweep_says_where_it_comes_from_and_what_it_took():
    line = sweeps.provenance(some_points())
    assert "seeds 0–2" in line and line.endswith("4 recipes") and "corrected_" not in line and "code " in line
    assert sweeps.effort(some_points()) == "9 runs of 0.0 minutes each in the median, 0 minutes in all."
    assert sweeps.provenance({}) == sweeps.effort({}) == "Nothing of this sweep is recorded."


def test_the_paper_s_own_phase_is_the_largest_running_sum_of_its_record():
    """Its first epoch is noise around zero, where the first change of sign would end the positive phase at once."""
    cost = np.where(np.arange(20) < 12, 0.5, -0.5)
    cost[0] = -0.1
    (run,) = point(name_of(1.0, 1.0), FULL, cost=cost, count=1)
    run.meta["config"]["alpha"] = None
    found = sweeps.paper_phase([run])
    assert (found.epochs, found.steps, found.lasting) == (12, 12 * 80, False)
    assert found.even == pytest.approx((11 - 1) * 80 * np.sqrt(7 / 8))
    assert found.ratio(1.0, True) == pytest.approx(3e-4 * found.even / sweeps.distance(8, 0.01))
    points = sweeps.grid(some_points())
    (words,) = (own for own in sweeps.findings(points, EXPECTED, found) if own.startswith("The paper's own cost"))
    assert "until epoch 12" in words and f"{found.ratio(1.0, True):.1f} times" in words and "P1 is seen there" in words
    run.arrays["step_cost_mean"][..., 1:] = -0.5
    words = sweeps.findings(points, EXPECTED, sweeps.paper_phase([run]))[-2]
    assert "has none that is positive" in words and "P1 is not seen there" in words


def test_the_paper_lies_where_its_rate_does():
    known = sweeps.phases(sweeps.grid(some_points()))
    assert sweeps.paper_factor(known) == 0.03 and phase_figures._column(sweeps.paper_factor(known)) == 0
    beside = dataclasses.replace(known[1.0], rate=3e-4 / 0.03 * (1 + 1e-12))
    assert phase_figures._column(sweeps.paper_factor({1.0: beside})) == 0, "not at the border"
    assert phase_figures._column(ALPHA_FACTORS[2]) == pytest.approx(2)
    assert len(THETA_FACTORS) * len(ALPHA_FACTORS) == len(PHASE)


def test_a_sweep_takes_each_point_with_the_seeds_it_has(monkeypatch):
    def collect(parameters, recipes, say):
        ((label, recipe),) = recipes.items()
        return {label: [recipe]}

    monkeypatch.setattr(runs, "experiment_of", lambda recipe: "search")
    monkeypatch.setattr(runs, "has_recorded", lambda recipe, *given, **overrides: recipe != "absent")
    monkeypatch.setattr(runs, "collect_recorded", collect)
    said = []
    assert runs.recorded(Parameters(), {"a": "here", "b": "absent"}, said.append) == {"a": ["here"]}
    assert said == ["b: not recorded."]


def everything():
    deep = synthetic.runs(5, cell=space.darts(4), kept=9, low=2)
    return as_the_paper() | {SINGLE: group(FULL, DEAD, WIDE), BILEVEL: group(FULL, DEAD), DSNAS_DEEP: deep}


def test_tables_have_a_row_a_framework():
    given = everything()
    given.pop(RANDOM)
    for table in (
        evolution_tables.outcomes(given), evolution_tables.growth_table(given),
        evolution_tables.width_table(given),
    ):  # fmt: skip
        rows = table.splitlines()[2:]
        assert [row.split(" |")[0].removeprefix("| ").split(" (")[0] for row in rows] == [
            SNAS, PUBLISHED, CORRECTED, SINGLE, DSNAS_DEEP, BILEVEL
        ]  # fmt: skip
        assert "nan" not in table


def test_every_framework_gets_a_number_and_an_interval_in_every_cell():
    given = everything()
    for relaxation in ("snas", "dsnas"):
        given[f"corrected_{relaxation}_bilevel_held_out"] = group(FULL, (0,))
        given[f"corrected_{relaxation}_single_same"] = group(FULL, FULL if relaxation == "snas" else (0,))
    rows = {
        row.split(" | ")[0].strip("| "): row.replace("\xa0", " ").strip("| ").split(" | ")
        for row in evolution_tables.outcomes(given).splitlines()[2:]
    }
    assert rows[SNAS][2:] == [
        "0.00 [0.00, 0.00] reproduced", "0.80 [0.80, 0.80] reproduced", "reproduced", "1.00 [1.00, 1.00] reproduced",
        "−4.00 [−4.00, −4.00] reproduced, n = 5",
    ]  # fmt: skip
    assert rows[CORRECTED][-1] == "0.00 [0.00, 0.00] not reproduced, n = 5"
    assert rows[BILEVEL][-1] == "−4.00 [−4.00, −4.00] reproduced, n = 5" and rows[BILEVEL][4] == "not claimed"
    assert rows[PUBLISHED][-1] == "not claimed"
    for run in given["corrected_snas_bilevel_held_out"]:
        run.meta["scale"] = "another"
    assert " reproduced, n = 5 (scale another) |" in evolution_tables.outcomes(given).splitlines()[2].replace(
        "\xa0", " "
    )
    del given["corrected_snas_single_same"]
    assert "| not recorded |" in evolution_tables.outcomes(given).splitlines()[2]


def test_deep_cells_of_darts_have_a_pair_of_their_own_for_p3():
    """Its control searches the same cell, and is paired by seed."""
    given = everything() | {BILEVEL_DEEP: group(FULL, (0,)), SINGLE_DEEP: group(FULL, WIDE)[1:]}
    rows = {row.split(" | ")[0].strip("| "): row for row in evolution_tables.outcomes(given).splitlines()[2:]}
    assert rows[BILEVEL_DEEP].endswith(unbroken("| −3.00 [−3.00, −3.00] too few seeds, n = 4 |"))
    assert "| not claimed |" in rows[BILEVEL_DEEP] and rows[SINGLE_DEEP].endswith("| not claimed |")
    del given[SINGLE_DEEP]
    assert evolution_tables.outcomes(given).endswith("| not recorded |")


def test_the_random_start_is_no_minimum():
    """At epoch 0 *none* is the likeliest of some edges by chance: P1 reads the minimum from epoch 1 on."""
    runs = group(FULL, FULL)
    for run in runs:
        run.arrays["probability"][0, 0, :2, NONE] = 0.9
    assert evolution_patterns.alive(runs)[:, 0].mean() < 1
    assert (evolution_patterns.at_the_minimum(runs) == 1).all()
    found = evolution_patterns.growth_of(runs)
    assert found.direction == NOT_REPRODUCED and not found.values.any()


def test_an_interval_stays_within_what_a_share_can_be():
    """Student's interval of a share knows no bounds; the table does."""
    assert summary.interval([1, 1, 0.2, 1, 1])[2] > 1
    assert evolution_tables._within(np.array([1, 1, 0.2, 1, 1]), 1).endswith(", 1.00]")
    assert evolution_tables._within(np.array([0, 0, 3, 0, 0]), 5).startswith("0.60 [0.00, ")


def test_an_epoch_s_interval_stays_above_0():
    """Four runs that are lowest at once and one that is late: Student's interval reaches below 0."""
    assert "3.00 [0.00,\N{NO-BREAK SPACE}" in evolution_tables.growth_table(
        {SNAS: group(FULL, count=4) + group(FULL, DEAD, count=1)}
    )


def test_sizes_have_a_row_each_recorded_or_not():
    name = next(iter(SIZES))
    lines = evolution_tables.sizes({name: group(FULL, DEAD, cost=TURNING)}).splitlines()[2:]
    assert len(lines) == len(SIZES) + 2 and sum("not recorded" in line for line in lines) == len(SIZES) + 1
    (own,) = (line for line in lines if "not recorded" not in line)
    assert own.startswith(unbroken("| α × 1, θ × 0.03 | 2 | as in the map | 5 | 1.00 [1.00, 1.00] | 6.00"))


def test_edges_table_says_when():
    table = evolution_tables.edges({SNAS: group(FULL, DEAD, WIDE)})
    assert "| e0 (0→2), input | dropped in 5 of 5 at epoch 7, back in 5 of 5 at epoch 14 |" in table
    assert "| e4 (2→3), intermediate | dropped in 5 of 5 at epoch 7, never back |" in table
    assert evolution_tables.edges({}) == "*Not recorded: these runs.*"


def test_variants_are_compared_with_their_base_by_seed():
    given = {PUBLISHED: group(FULL, FULL), CORRECTED: group(FULL, DEAD, WIDE)}
    lines = evolution_tables.patterns(given, [PUBLISHED, CORRECTED, RANDOM], CORRECTED).splitlines()
    assert unbroken("| −1.00 [−1.00, −1.00] | not reproduced | not reproduced |") in lines[2]
    given[PUBLISHED] = group(FULL, FULL, first=2)  # of these seeds 2 to 4 are the base's as well
    assert unbroken("| −1.00 [−1.00, −1.00] |") in evolution_tables.patterns(given, [PUBLISHED], CORRECTED)
    assert "| – | reproduced | reproduced |" in lines[3] and lines[4].count("not recorded") == 5


FIGURES = {
    "alive": evolution_figures.alive_map,
    "shape": lambda given: evolution_figures.shape_over_time(evolution_tables.kinds(given)["minimal"]),
    "crossing": evolution_figures.recovery_against_crossing,
    "lag": evolution_figures.lag_and_life,
    "rules": lambda given: evolution_figures.under_every_rule(given[SNAS]),
    "rules over time": lambda given: evolution_figures.rules_over_time(given[SNAS]),
    "phase": lambda given: phase_figures.phase_diagram(some_points()),
    "no phase": lambda given: phase_figures.phase_diagram({}),
    "ratio": lambda given: phase_figures.against_prediction(some_points(), EXPECTED),
    "no ratio": lambda given: phase_figures.against_prediction({}, {}),
}


@pytest.mark.parametrize("count", [5, 1])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_says_what_it_shows(name, count, recwarn):
    given = {
        label: own[:count] for label, own in everything().items() if label in (SNAS, CORRECTED, BILEVEL, DSNAS_DEEP)
    }
    figure = FIGURES[name](given)
    markup = style.svg(figure)
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    assert len(figure.get_label()) > 40 and not re.search(r"\bnan\b", figure.get_label() + markup)
    assert count == 1 or style.svg(FIGURES[name](given)) == markup


def test_alive_map_counts_seeds():
    mixed = group(FULL, DEAD, count=2) + group(FULL, FULL, count=2)
    (image,) = evolution_figures.alive_map(mixed).axes[0].images
    assert image.get_array()[4, -1] == pytest.approx(0.5) and image.get_array()[4, 0] == 1


def test_tiles_are_white_where_a_rule_drops_the_edge():
    (image,) = evolution_figures.under_every_rule(group(FULL, WIDE, count=1)).axes[0].images
    first, second = image.get_array()[:, 0], image.get_array()[:, 1]  # the likeliest, and top 2 a node
    white = [bool((tile == 1).all()) for tile in first]
    assert white == [False, False, False, False, True]
    assert sum(bool((tile == 1).all()) for tile in second) == 1
    assert np.allclose(first[0], evolution_figures.to_rgb(style.OPERATION_COLOURS["sep_conv_3x3"]))


def test_rules_over_time_read_every_epoch():
    left, right = evolution_figures.rules_over_time(group(FULL, WIDE)).axes[:2]
    likeliest = left.lines[0].get_ydata()
    assert (likeliest[0], likeliest[-1], len(likeliest)) == (5, 4, 21) and right.lines[0].get_ydata()[-1] == 1


def test_what_is_shown_is_said():
    own = group(FULL, DEAD)
    own[0].meta["config"]["network"]["cells"] = 3
    words = evolution_figures.shown_words("DSNAS", own, 1)
    assert words == "Shown: DSNAS, the minimal cell (2 nodes, 5 edges; 3 of them in the network), n = 1."


def test_cells_of_unlike_size_do_not_share_a_curve():
    from nas_core.pages.summary import ReadingError

    with pytest.raises(ReadingError, match="nodes"):
        evolution_figures.shape_over_time(everything())
