"""Appendices C, E and H as recorded: how stacks and variants are measured, judged and drawn."""

import math
import re

import numpy as np
import pytest

from nas_core.pages import normalization_figures as norms
from nas_core.pages import stack_figures, stack_gradients, variant_figures
from nas_core.pages import stack_measures as stacks
from nas_core.pages import variant_measures as variants
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, Verdict
from nas_core.pages.evidence import CannotTell
from nas_core.space import NONE, OPERATIONS, darts
from tests import synthetic


def with_maps(maps, **dials):
    """A run a map: its statistics are ``[N, E, K]``, known to a hundredth of their size."""
    found = synthetic.runs(len(maps), cells=len(maps[0]), **dials)
    for run, own in zip(found, maps, strict=True):
        run.arrays["statistics_mean"][:] = own
        run.arrays["statistics_mean"][..., NONE] = 0
        run.arrays["statistics_variance"][:] = (0.01 * np.abs(own)) ** 2 * 100
        run.arrays["statistics_count"][:] = 100
    return found


def stack(factors, seeds=5, edges=5, spread=0.1, seed=0):
    """Runs whose cells have entries of random sign and of these sizes, up to a factor that differs between seeds."""
    dice = np.random.default_rng(seed)
    shape = (len(factors), edges, len(OPERATIONS))
    signs = [dice.choice((-1.0, 1.0), shape) for _ in range(seeds)]
    jitter = [np.exp(spread * dice.normal(size=(len(factors), 1, 1))) for _ in range(seeds)]
    return with_maps([s * j * np.reshape(factors, (-1, 1, 1)) for s, j in zip(signs, jitter, strict=True)])


# Stacks


def test_sizes_leave_none_out_and_sums_count_it():
    run = with_maps([np.stack([np.full((5, 8), 3.0), np.full((5, 8), -1.0)])])
    assert stacks.sizes(run) == pytest.approx(np.array([[3.0, 1.0]]))
    assert stacks.sums(run) == pytest.approx(np.array([[5 * 3 * 7 / 8, -5 * 7 / 8]]))
    assert stacks.edge_sizes(run).shape == (1, 2, 5)


def test_sampling_noise_is_taken_off():
    dice, count, deviation = np.random.default_rng(0), 50, 2.0
    true = np.full((2, 5, 8), 0.1)
    runs = with_maps([true + deviation / math.sqrt(count) * dice.normal(size=true.shape) for _ in range(40)])
    for run in runs:
        run.arrays["statistics_variance"][:] = deviation**2
        run.arrays["statistics_count"][:] = count
    assert stacks.sizes(runs).mean() > 0.2, "noise makes 0.1 look like more than 0.2"
    assert stacks.squares(runs).mean() == pytest.approx(0.01, abs=0.004)
    assert stacks.one_draw(runs).mean() == pytest.approx(2.0, abs=0.1)
    assert stacks.squares(with_maps([true])).mean() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    "factors, outcome",
    [
        ((0.01, 0.02, 1.0), (REPRODUCED, REPRODUCED)),
        ((0.01, 0.4, 1.0), (REPRODUCED, NOT_REPRODUCED)),  # one earlier cell is too large
        ((1.0, 1.0, 1.0), (NOT_REPRODUCED, NOT_REPRODUCED)),
        ((0.01, 2.0, 1.0), (NOT_REPRODUCED, NOT_REPRODUCED)),
    ],
)
def test_the_last_cell_is_compared_with_the_largest_before_it(factors, outcome):
    verdict = stacks.last_cell({stacks.TRAINED: stack(factors)})
    assert (verdict.direction, verdict.magnitude) == outcome
    assert verdict.estimate == pytest.approx(1 / max(factors[:-1]), rel=0.2)


def test_every_stack_has_to_show_it_and_the_least_is_told():
    far, near = stack((0.01, 0.01, 1.0)), stack((0.25, 0.25, 1.0))
    verdict = stacks.last_cell({stacks.INITIAL: near, stacks.TRAINED: far})
    assert (verdict.direction, verdict.magnitude) == (REPRODUCED, PARTLY)
    assert verdict.estimate == pytest.approx(4, rel=0.2) and stacks.INITIAL in verdict.sentence
    assert stacks.last_cell({stacks.INITIAL: near[:4]}).direction == NOT_TESTED
    with pytest.raises(CannotTell, match="single cell"):
        stacks.last_cell({stacks.INITIAL: stack((1.0,))})
    with pytest.raises(CannotTell, match="none is given"):
        stacks.last_cell({})


def test_one_step_and_a_slope_are_told_apart():
    plateau, slope = stack((0.1, 0.1, 0.1, 1.0), spread=0), stack((0.001, 0.01, 0.1, 1.0), spread=0)
    assert [np.exp(own).mean() for own in stacks.steps(plateau)] == pytest.approx([10, 1])
    assert [np.exp(own).mean() for own in stacks.steps(slope)] == pytest.approx([10, 10])
    assert np.isnan(stacks.steps(stack((0.1, 1.0)))[1]).all()


def test_tables_of_stacks_have_a_row_a_cell_and_a_stack():
    groups = {"a": stack((0.1, 0.1, 1.0)), "b": stack((0.1, 1.0))}
    lines = stacks.ratio_table(groups).splitlines()
    assert len(lines) == 2 + 2 and lines[-1].split("|")[3].strip() == ""
    assert len(stacks.steps_table(groups).splitlines()) == 4
    sizes = stacks.size_table(groups).splitlines()
    assert len(sizes) == 4 and all(10 * 0.7 < float(sizes[2].split("|")[place].split()[0]) < 14 for place in (3, 4))
    groups["one"] = stack((1.0,))
    with pytest.raises(CannotTell):
        stacks.ratio_table(groups)


def test_trend_weights_operations_by_their_probability():
    runs = synthetic.runs(2, cells=3)
    for run in runs:
        run.arrays["probability"][:] = 1 / 8
        run.arrays["step_cost_mean"][:, -1, :, 1:] = 8.0
        run.arrays["step_cost_mean"][:, -2, ::2, 1:] = 1.0
        run.arrays["step_cost_mean"][:, -2, 1::2, 1:] = -1.5
    epochs, cost = stacks.trend(runs)
    assert cost.shape == (2, len(epochs), 3, 5) and cost[:, :, -1] == pytest.approx(7.0)
    assert cost[:, :, -2].sum(-1) == pytest.approx(0.0)
    assert "size of 0.00 [0.00, 0.00], that of the last cell 35.00" in stacks.trend_words(runs)
    label = stack_figures.two_cells(runs).get_label()
    assert "(b) last cell sum +35" in label
    assert len(stacks.trend_table(runs).splitlines()) == 4


def test_every_cell_has_signed_rows_and_dots_where_no_sign_is_shown():
    runs = stack([0.1, 1.0], spread=0.0)
    for place, run in enumerate(runs):
        run.arrays["statistics_mean"][:] = np.array([0.1, 1.0])[:, None, None]
        run.arrays["statistics_mean"][0, 2, 3] = (-1) ** place
        run.arrays["statistics_mean"][1, :, 1] = -1.0
        run.arrays["statistics_mean"][..., NONE] = 0
        run.arrays["statistics_mean"][...] += 1e-3 * place * (run.arrays["statistics_mean"] != 0)
    figure = stack_figures.signed_maps({"before": runs, "after": runs[:1]})
    axes = figure.axes[0]
    drawn = np.asarray(axes.images[0].get_array())
    assert drawn.shape == (10, 8) and np.allclose(drawn[5:, 1], -1, atol=0.01)
    (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(3, 2)]
    assert "in the last cell 30 of 35 entries are shown to be positive, 5 negative" in figure.get_label()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cell 1", "cell 2"]


def test_a_stack_that_is_not_recorded_is_left_out_and_named():
    found = {stacks.INITIAL: stack([1.0, 2.0]), stacks.TRAINED: stack([1.0, 2.0], seeds=2)}
    assert list(stacks.by_time(found)) == ["before training", "after training"] and stacks.by_time({}) == {}
    words = stacks.seeds_words(found)
    assert f"{stacks.INITIAL}: n = 5; {stacks.TRAINED}: n = 2" in words and f"left out: {stacks.DEEP_INITIAL}" in words
    assert "left out" not in stacks.seeds_words(found, found)
    assert stacks.MINIMAL | stacks.DEEP == stacks.RECIPES


def test_figures_of_stacks_describe_themselves():
    groups = {"before": stack((0.002, 0.01, 1.0)), "after": stack((0.1, 0.2, 1.0))}
    figure = stack_figures.cell_maps(groups)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == 15 and float(words[0].split()[0]) * 100 < float(words[-1].split()[0]) < 99
    assert all("±" in word for word in words)
    assert "before: 1 in the last cell" in figure.get_label() or "before: 0.9" in figure.get_label()
    label = stack_figures.profiles({"stack": groups, "again": groups}).get_label()
    assert "stack, after: the last cell's mean size is" in label
    wide = synthetic.runs(2, cell=darts(4), cells=8)
    assert len(stack_figures.cell_maps({"": wide}).axes[0].texts) == 8 * 14


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.62, 24, [1, 2, 5, 10, 20]), (3, 4, [3, 4]), (1e-6, 1e2, [10.0**power for power in range(-6, 3)])],
)
def test_a_logarithmic_scale_has_round_ticks(low, high, ticks):
    assert stack_figures._log_ticks(low, high) == pytest.approx(ticks)
    assert len(stack_figures._log_ticks(1e-300, 1.0)) <= 9


@pytest.fixture(scope="module")
def parts():
    return {"untrained": stack_gradients.anatomy(range(2), 3, 0, 1)}


def test_cost_is_the_product_of_its_factors(parts):
    (own,) = parts.values()
    assert own.cost.shape == (2, 3)
    assert own.cost == pytest.approx(own.gradient + own.feature + own.cosine)
    assert (own.cosine < 0).all()
    assert len(stack_gradients.anatomy_table(parts).splitlines()) == 2 + 4
    assert "untrained, |cos φ|" in stack_figures.anatomy(parts).get_label()


@pytest.mark.parametrize("slope, way", [(1, "shrinks"), (-1, "grows"), (0, "neither")])
def test_words_say_where_the_gradient_goes(slope, way):
    jitter = np.linspace(-0.1, 0.1, 5)[:, None] * np.arange(4.0)  # a slope of its own in every seed, around 0
    gradient, cosine = slope * np.arange(4.0) + jitter, np.array([0, 0, 0, math.log(3)]) + 0 * jitter
    own = stack_gradients.Anatomy(gradient + cosine, gradient, 0 * gradient, cosine)
    words = stack_gradients.words({"now": own})
    assert words.startswith("Now the cost") and "the angle 3.00 [3.00, 3.00]" in words and f"it {way}" in words


# Variants


def pattern(when=variants.AFTER):
    """A map ``[1, E, K]`` as in Fig 4: costs of both signs, positive in the mean before training, negative after it."""
    own = np.random.default_rng(1).normal(size=(1, 5, len(OPERATIONS)))
    return own - own[..., 1:].mean() + (1 if when == variants.BEFORE else -1)


def noisy(own, noise=0.3, seeds=5, seed=0, **dials):
    """Runs of a map with noise of its own in every seed."""
    dice = np.random.default_rng(seed)
    return with_maps([own + noise * dice.normal(size=own.shape) for _ in range(seeds)], **dials)


def all_variants(**replaced):
    """Every variant with the map of the base, but for affine-free instance norm, which has none."""
    found = {}
    for place, name in enumerate(variants.RECIPES):
        found[name] = noisy(pattern(variants.BEFORE if name.endswith(variants.BEFORE) else variants.AFTER), seed=place)
    for when in (variants.BEFORE, variants.AFTER):
        found[variants.label(variants.INSTANCE, when)] = noisy(0 * pattern(), 1e-8)
    for run in found[variants.label(variants.INSTANCE, variants.AFTER)]:
        run.arrays["loss"][:] = run.arrays["entropy"][:] = math.log(10)
        run.arrays["accuracy"][:] = 0.1
    return found | replaced


def test_a_variant_is_as_like_the_base_as_the_base_is_to_itself():
    own = variants.compare(all_variants(), variants.LAYER, variants.AFTER)
    assert own.outcome == REPRODUCED and own.same(0.8)
    assert np.tanh(own.alike.mean()) == pytest.approx(np.tanh(own.ceiling.mean()), abs=0.05)
    assert own.known == 35 and (own.positive > 0).all()
    alone = variants.compare({k: v[:1] for k, v in all_variants().items()}, variants.LAYER, variants.AFTER)
    assert np.isfinite(alone.alike).all() and np.isnan(alone.ceiling).all() and alone.outcome == NOT_TESTED


LAYER_AFTER = variants.label(variants.LAYER, variants.AFTER)


@pytest.mark.parametrize(
    "layer, outcome",
    [
        (pattern(), (REPRODUCED, REPRODUCED)),
        (5 * pattern(), (REPRODUCED, PARTLY)),  # the same map, but larger
        (np.roll(pattern(), 3, axis=1), (REPRODUCED, PARTLY)),  # as large, but another map
        (pattern(variants.BEFORE), (PARTLY, PARTLY)),  # still positive
        (0 * pattern(), (PARTLY, PARTLY)),
    ],
)
def test_maps_of_affine_norms_are_compared_with_batch_norm(layer, outcome):
    given = all_variants(**{LAYER_AFTER: noisy(layer, 0.3 if layer.any() else 1e-9, seed=99)})
    verdict = variants.affine_maps(given)
    assert (verdict.direction, verdict.magnitude) == outcome
    assert ("affine layer norm after training (no cost at all)" in verdict.sentence) == (not layer.any())
    assert "batch norm in the order ReLU-Conv-BN" in verdict.sentence
    assert variants.order_maps(given).direction == REPRODUCED


def test_maps_that_do_not_agree_with_themselves_are_compared_by_size_alone():
    dice = np.random.default_rng(5)
    base = with_maps([dice.normal(size=(1, 5, 8)) + 0.5 for _ in range(5)])
    given = {
        variants.label(variants.BASE, variants.AFTER): base,
        LAYER_AFTER: with_maps([dice.normal(size=(1, 5, 8)) + 0.5 for _ in range(5)]),
    }
    own = variants.compare(given, variants.LAYER, variants.AFTER)
    assert np.tanh(own.ceiling.mean()) < 0.2 and own.same(0.8)
    for run in given[LAYER_AFTER]:
        run.arrays["statistics_mean"][:] *= 3
    assert not variants.compare(given, variants.LAYER, variants.AFTER).same(0.8)


def test_no_cost_needs_zero_maps_and_a_loss_that_stays():
    given = all_variants()
    verdict = variants.no_cost(given)
    assert (verdict.direction, verdict.magnitude, verdict.n) == (REPRODUCED, REPRODUCED, 5)
    assert verdict.estimate < 1e-6 and variants.no_cost({k: v[:4] for k, v in given.items()}).direction == NOT_TESTED
    after = variants.label(variants.INSTANCE, variants.AFTER)
    given[after][2].arrays["loss"][-1, 0] -= 0.1  # one run has learned something
    assert variants.no_cost(given).direction == PARTLY
    assert variants.no_cost(all_variants(**{after: noisy(pattern())})).direction == NOT_REPRODUCED


def test_both_parts_of_a_claim_make_one_verdict():
    def theory(direction):
        return Verdict("N-affine", direction, NOT_TESTED, 9, *(math.nan,) * 3, "", "Theory.", "", "")

    recorded = variants.affine_maps(all_variants())
    assert variants.joined(theory(REPRODUCED), recorded).direction == REPRODUCED
    assert variants.joined(theory(NOT_REPRODUCED), recorded).direction == PARTLY
    few = variants.affine_maps({name: runs[:4] for name, runs in all_variants().items()})
    assert variants.joined(theory(REPRODUCED), few).direction == NOT_TESTED
    own = variants.joined(theory(PARTLY), recorded)
    assert own.direction == PARTLY and own.magnitude == recorded.magnitude and own.n == 5
    assert own.sentence.startswith("Theory. Recorded maps, before and after training")


def test_measures_use_the_theory_of_the_page(monkeypatch):
    class Small(norms.Findings):
        """Nothing is computed."""

    monkeypatch.setattr(norms, "findings", lambda: Small({}, {}, {}))
    parts = [Verdict(name, REPRODUCED, NOT_TESTED, 1, *(math.nan,) * 3, "", name, "", "") for name in variants.MEASURES]
    monkeypatch.setattr(norms, "verdicts", lambda *given: parts)
    for name, own in variants.MEASURES.items():
        verdict = own(all_variants())
        assert verdict.claim_id == name and verdict.direction == REPRODUCED and verdict.sentence.startswith(name)


def test_tables_and_figures_of_variants():
    given = all_variants()
    table = variants.comparison_table(given, (variants.LAYER, variants.INSTANCE)).splitlines()
    assert len(table) == 2 + 4 + 2 and [line.split("|")[5].strip() for line in table[4:6]] == ["all zero"] * 2
    assert table[0].count("|") == 7, "six columns fit the page"
    assert re.match(r"Paired by seed, n.=.5\. Between seeds .* by 0\.\S+ \[.*\] before .* and 0.* after ", table[-1])
    one = variants.comparison_table({name: runs[:1] for name, runs in given.items()}, (variants.LAYER,))
    assert one.splitlines()[-1] == "Paired by seed, n = 1." and "unknown" not in one
    assert len(variants.learning_table(given).splitlines()) == 2 + 6
    assert list(variants.times(given, variants.BASE)) == [variants.BEFORE, variants.AFTER]
    assert list(variants.panels(given, (variants.BASE,), variants.AFTER)) == [variants.BASE]
    figure = variant_figures.agreement(given)
    assert len(figure.axes) == 8 and f"{variants.LAYER} after training: correlation +0.9" in figure.get_label()


def test_every_recipe_exists():
    from nas_core.lab.recipes import RECIPES

    assert set(stacks.RECIPES.values()) | set(variants.RECIPES.values()) <= set(RECIPES)
    assert len(set(variants.RECIPES.values())) == 12


def test_small_stacks_say_n_and_their_data(parts):
    seeds, cells = next(iter(parts.values())).cost.shape
    words = stack_gradients.n_words(parts)
    assert f"geometric mean of {seeds} seeds" in words and f"stacks of {cells} cells" in words and "64 images" in words
    assert "over 3 seeds" in stack_gradients.cases_words({2: [0, 0, 0], 5: [0, 0, 0]})
