"""The page on estimators: its readings on made-up runs whose answers are known, its figures, and claim B5."""

import numpy as np
import pytest

from nas_core.estimators import entries
from nas_core.lab import experiments, recipes
from nas_core.lab.estimator_recipes import RECIPES
from nas_core.lab.store import describe
from nas_core.pages import estimator_designs as designs
from nas_core.pages import estimator_pages as page
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED
from nas_core.space import minimal
from tests.synthetic import FakeResult
from tests.synthetic import runs as searches

WANTED = entries(minimal())
CONFIG = describe(RECIPES["cost_estimators"]("tiny"))["config"]
DESIGNS, OWN = CONFIG["designs"], CONFIG["conditioned"]
BARE = FakeResult({}, {"config": CONFIG})
TRUTH = np.where(WANTED, 0.1, 0.0)


def designed(spread=1.0):
    """Designs of which an operation evaluated takes 10 ms on top of 100, with a variance of 1 + 8/n for n first nodes; ``spread``
    multiplies the variance of the page's own."""
    cost = [0.01 * designs.evaluations(BARE, own) + 0.1 for own in DESIGNS]
    variance = np.array([1 + 8 / own["nodes"] for own in DESIGNS])
    variance[DESIGNS.index(OWN)] *= spread
    return {
        "variance": variance[None, :, None, None] * np.where(WANTED, 1e-4, 0.0) * np.ones((2, 1, 1, 1)),
        "count": np.full((2, len(DESIGNS), 5, 8), 16),
        "seconds": 16 * np.array(cost)[None].repeat(2, 0),
        "steps": np.full((2, len(DESIGNS)), 16),
    }


def run(seed=0, *, gain=6.0, bias=0.05, cancels=0.5, repeats=5, design=1.0):
    """A run in which conditioning takes ``gain`` times less time than sampling and the counterfactual bias is ``bias``."""
    rng = np.random.default_rng(seed)

    def repeated(variance, seconds, steps, off=0.0, independent=1.0):
        noise = rng.normal(size=(2, repeats, 5, 8)) * np.sqrt(variance) * WANTED
        return {
            "mean": TRUTH + off * WANTED + noise,
            "count": np.full((2, repeats, 5, 8), steps),
            "variance": np.full((2, 5, 8), variance * independent * steps),
            "seconds": np.full((2, repeats), seconds),
            "steps": np.full((2, repeats), steps),
            "signs": np.where(WANTED, 100.0 + 10 * np.arange(8), np.nan) * np.ones((2, 1, 1)),
        }

    parts = {
        "sampled": repeated(1e-2, 2.0, 100),
        "counterfactual": repeated(1e-2, 1.0, 20, bias),
        "conditioned": repeated(1e-2 / gain, 2.0, 20, independent=1 / (1 - cancels)),
        "exact": {
            "mean": TRUTH + rng.normal(size=(2, 4, 5, 8)) * WANTED,
            "seconds": np.full(2, 40.0),
            "single": np.array([3.0, 5.0, 2.0])[:, None, None] * np.ones((2, 1, 5, 8)),
            "shared": np.array([1.0, 5.0, 1.0])[:, None, None] * np.ones((2, 1, 5, 8)),
        },
        "design": designed(design),
        "adaptive": {
            "signs": np.where(WANTED, 24.0, np.nan)[None].repeat(2, 0) + np.where(np.arange(8) == 7, np.nan, 0.0),
            "small": (WANTED & (np.arange(8) == 7) & (np.arange(5)[:, None] > 0))[None].repeat(2, 0),
            "seconds": np.full(2, 3.0),
            "steps": np.full(2, 24),
        },
    }
    arrays = {f"{name}_{what}": value for name, part in parts.items() for what, value in part.items()}
    meta = searches(1, recipe="cost_estimators", scale="tiny", dataset="digits")[0].meta
    return FakeResult(arrays | {"steps_per_pass": np.array(12)}, meta | {"seed": seed, "config": CONFIG})


def many(count=5, **dials):
    return [run(seed, **dials) for seed in range(count)]


def test_gain_is_the_ratio_of_variance_times_seconds():
    gains = page.gains(many(20))
    assert gains.shape == (20, 2) and np.exp(np.log(gains).mean()) == pytest.approx(6, rel=0.1)
    assert page.gains(many(), "sampled") == pytest.approx(1)
    assert page.prices(many(20), "sampled").mean() == pytest.approx(2e-2, rel=0.1)
    ratio = page.prices(many(20), "conditioned") / page.independent_prices(many(20), "conditioned")
    assert ratio.mean() == pytest.approx(0.5, rel=0.1)


def test_bias_is_told_from_noise():
    assert page.biases(many(20, bias=0.2)).mean() == pytest.approx(0.2, rel=0.15)
    assert page.biases(many(20, bias=0.0)).mean() < 0.03 < 0.1 * np.sqrt(2 / 5), "noise alone would be larger"
    assert page.sizes(many()).mean() == pytest.approx(0.1, rel=0.1)


def test_error_falls_with_time_and_stays_above_the_bias():
    seconds = np.array([1.0, 100.0, 1e6])
    for name in page.WORDS:
        error = page.errors(many(bias=0.2), name, seconds)
        assert (np.diff(error, axis=-1) < 0).all()
        assert (error[..., -1] > 0.1).all() == (name == "counterfactual")


def test_an_entry_that_no_repeat_observed_is_left_out():
    whole, holed = run(), run()
    mean = holed.arrays["sampled_mean"] = holed.arrays["sampled_mean"].copy()
    mean[:, :, 0, 1] = np.nan
    mean[:, 0, 1, 2] = np.nan  # one repeat of five
    assert np.isfinite(page.prices([holed], "sampled")).all()
    assert page.prices([holed], "sampled") == pytest.approx(page.prices([whole], "sampled"), rel=0.1)


def test_signs_are_known_in_the_order_of_their_steps():
    share = page.known(many(), "sampled", np.array([0.0, 2.15, 10.0]))
    # 0.02 s a step; operations 1 … 7 take 110 … 170 steps.
    assert share[0, 0] == pytest.approx([0, 0, 1])
    assert page.known(many(), "sampled", np.array([2.75]))[0, 0] == pytest.approx(3 / 7)


def test_the_table_of_signs_counts_within_fixed_passes():
    text = page.stopping(many())
    assert "after 8 passes" in text and "| before training | 0" in text
    runs = many()
    for own in runs:
        own.arrays["sampled_signs"] = own.arrays["sampled_signs"] - 70  # 40 … 100 steps of 96 within the passes
        own.arrays["conditioned_signs"] = own.arrays["conditioned_signs"] / 10
    plain, shared, saved = page._saved(runs[0], 0)
    # 96 steps of 0.02 s; conditioning takes 0.1 s a step and knows the 30th sign after 16 steps.
    assert (plain, shared) == (30, 35) and saved == pytest.approx(1 - 1.6 / 1.92)


def test_the_best_split_comes_from_the_measured_times():
    # Shared variance 2 of the architecture against 5 of the batch, 10 ms an operation on top of 100.
    assert designs.best_nodes(run(), 0) == pytest.approx(np.sqrt(2 / 5 * 0.1 / 0.01))
    flat = run()
    flat.arrays["design_seconds"] = np.ones((2, len(DESIGNS)))
    assert np.isnan(designs.best_nodes(flat, 0)), "without a price of an architecture there is no best number"


def test_designs_are_timed_to_the_same_error_as_the_pages_own():
    found = designs.times(many())
    assert found.shape == (5, 2, len(DESIGNS)) and found[..., DESIGNS.index(OWN)] == pytest.approx(1)
    two = DESIGNS.index(OWN | {"nodes": 2})
    assert found[..., two] == pytest.approx((1 + 4) * (0.1 + 0.02) / ((1 + 1) * (0.1 + 0.08)))
    every = DESIGNS.index(OWN | {"between": None})
    assert designs.evaluations(BARE, DESIGNS[every]) == 48 and designs.evaluations(BARE, OWN) == 8
    assert [designs.dial(own, OWN) for own in (DESIGNS[two], DESIGNS[every], OWN)] == ["nodes", "between", ""]
    assert "the fastest design is that of this page" in designs.design_words(many())
    assert "the fastest design is the one with 2 rounds of direct edges" in designs.design_words(many(design=1.5))


def test_an_entry_that_a_design_seldom_observes_costs_it_time():
    whole, holed = run(), run()
    two = DESIGNS.index(OWN | {"nodes": 2})
    holed.arrays["design_count"][:, two] = 8
    assert designs.times([holed])[0, 0, two] == pytest.approx(2 * designs.times([whole])[0, 0, two])


def test_batches_for_a_sign_are_those_of_most_runs():
    runs = many()
    for own in runs[:3]:
        own.arrays["sampled_signs"] = own.arrays["sampled_signs"] + np.where(np.arange(8) == 2, np.nan, 0.0)
    found = designs.batches_for_signs(runs, "sampled")
    assert found[0, 0, 1] == 110 and np.isnan(found[0, 0, 2]) and np.isnan(found[0, 0, 0])
    assert (
        "sampled, before training: 30 of 35 signs, half of them after 145 batches"
        in designs.signs_map(runs).get_label()
    )


def test_the_adaptive_run_says_what_it_saved_and_what_stayed_open():
    # 24 of 60 batches; 3 s, where five passes of 12 batches at 0.1 s take 6.
    assert designs._adaptive(run(), 0) == (24, pytest.approx(0.5), 30, 4, 1)
    table = designs.adaptive_table(many())
    assert "batches, of 60" in table and "below 50\N{NO-BREAK SPACE}%" in table


DRAWN = (page.error_against_time, page.bias_and_noise, page.variance_split, page.signs_known)


@pytest.mark.parametrize("draw", [*DRAWN, designs.time_by_design, designs.signs_map])
@pytest.mark.parametrize("count", [1, 5])
def test_figures_say_what_they_show(draw, count, recwarn):
    figure = draw(many(count))
    words = figure.get_label()
    assert "before training" in words.lower() and "after training" in words.lower() and "nan" not in words
    drawn = page.style.svg(figure)
    assert len(drawn) > 1000 and not recwarn.list
    if count == 1:
        assert drawn == page.style.svg(draw(many(count))), "equal runs give equal bytes"


def test_figures_speak_of_their_data():
    assert "50 % of it" in page.variance_split(many()).get_label()
    assert (
        "sampled 100 % and conditioned 0 %"
        in page.signs_known(
            [FakeResult(own.arrays | {"conditioned_signs": np.full((2, 5, 8), np.nan)}, own.meta) for own in many()]
        ).get_label()
    )


@pytest.mark.parametrize("table", [page.comparison, designs.splits, page.stopping, designs.adaptive_table])
def test_tables_have_a_row_a_state(table):
    text = table(many())
    assert text.count("before training") == text.count("after training") >= 1 and "nan" not in text


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(8.0, (REPRODUCED, REPRODUCED)), (2.0, (REPRODUCED, NOT_REPRODUCED)), (0.5, (NOT_REPRODUCED,) * 2)],
)
def test_b5_is_judged_by_the_gain(gain, expected):
    verdict = page.judge("B5", {page.ESTIMATORS: many(gain=gain)})
    assert (verdict.direction, verdict.magnitude) == expected and verdict.n == 5
    assert verdict.estimate == pytest.approx(gain, rel=0.2) and verdict.low < verdict.estimate < verdict.high
    assert "counterfactual estimator is biased" in verdict.sentence


def test_b5_near_the_goal_is_partly_met_and_needs_five_seeds():
    near = many(gain=4.4)
    low = page.summary.interval(np.log(page.gains(near)).mean(1))[1]
    expected = REPRODUCED if low >= np.log(page.GOAL) else PARTLY
    assert page.judge("B5", {page.ESTIMATORS: near}).magnitude == expected
    assert page.judge("B5", {page.ESTIMATORS: many(3)}).direction == NOT_TESTED
    assert page.judge("B5", {}).direction == NOT_TESTED


def test_the_lab_knows_the_experiment_of_a_recipe(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "cost_estimators", RECIPES["cost_estimators"])
    assert experiments.experiment_of("cost_estimators") == "estimators" in experiments.EXPERIMENTS
    assert experiments.experiment_of("reference_dsnas") == experiments.experiment_of("unknown") == "search"
    config = experiments.configure("cost_estimators", "tiny", epochs=3, images=64)
    assert (config.epochs, config.data.images) == (3, 64)


@pytest.mark.parametrize("scale", experiments.SCALES)
def test_the_recipe_differs_between_scales_in_size_and_pace_only(scale):
    own, paper = (RECIPES["cost_estimators"](name) for name in (scale, "paper"))
    assert (own.network, own.theta, own.conditioned, own.data.held_out) == (
        paper.network,
        paper.theta,
        paper.conditioned,
        0,
    )
    assert own.data.dataset == ("digits" if scale == "tiny" else "cifar10")
    with pytest.raises(ValueError, match="scale 'huge' is unknown; allowed are tiny, small, paper"):
        RECIPES["cost_estimators"]("huge")


def test_the_shared_pass_agrees_with_probes_on_the_page():
    check = page.verification(architectures=20, cell=minimal().only(("none", "skip_connect", "dil_conv_3x3")))
    assert check.costs == 100 and check.difference < 1e-12 * max(1, check.largest) and check.largest > 1e-3


def test_the_recorded_check_stands_under_the_one_of_the_page():
    drawn = page.Check(1e-16, 0.1, 150, 750)
    arrays = {
        "difference": np.full(5, 2e-16), "largest": np.full(5, 0.2), "architectures": np.array(32768),
        "probed": np.array([[np.nan, 0.5]]), "shared": np.array([[np.nan, 0.5 + 4e-16]]),
    }  # fmt: skip
    lines = page.check_table(drawn, [FakeResult(arrays, {})]).splitlines()
    assert lines[-1] == "| every one, recorded | 32768 | 163840 | 2.0e−16 | 0.20 | 4.4e−16 |"
    assert len(page.check_table(drawn, []).splitlines()) == 3
    assert experiments.experiment_of(page.EVERY["every architecture"]) == "enumeration" in experiments.EXPERIMENTS


def test_the_falsifier_of_stopping_early_is_named_when_it_comes_true():
    assert "Before training no run reached its cap of 60 batches with signs open" in designs.adaptive_words(many())
    stuck = many()
    for own in stuck:
        own.arrays["adaptive_steps"] = np.full(2, 60)
    words = designs.adaptive_words(stuck)
    assert (
        "After training the falsifier has come true: every run reached its cap of 60 batches with signs open, 1.00"
        in words
    )
    stuck[0].arrays["adaptive_steps"] = np.full(2, 24)
    assert f"has come true in {len(stuck) - 1} of {len(stuck)} runs" in designs.adaptive_words(stuck)
