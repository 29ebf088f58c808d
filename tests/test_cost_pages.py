"""The statistics of cost: verdicts and readings that other data would change, and figures that say what they show."""

import re
from dataclasses import replace
from types import MappingProxyType

import matplotlib
import nbformat
import numpy as np
import pytest

from nas_core import space
from nas_core.lab.store import Job, Store
from nas_core.pages import cost_figures, cost_reasons, style, summary
from nas_core.pages import cost_measures as measures
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED
from nas_core.pages.parameters import Parameters
from tests import synthetic
from tests.conftest import ROOT
from tests.test_figures import is_zero_line, words

E, K = 5, len(space.OPERATIONS)


def with_entries(run, values, error=0.001):
    """A made-up run whose cost at fixed weights is ``values`` (a number, or [E, K])."""
    mean = np.where(np.array(space.minimal().mask()), values, np.nan) * np.ones((1, E, K))
    mean[..., 0] = 0
    changed = {
        "statistics_mean": mean,
        "statistics_variance": np.full((1, E, K), 100 * error**2),
        "statistics_count": np.full((1, E, K), 100),
    }
    return replace(run, arrays=MappingProxyType(dict(run.arrays) | changed))


def group(values, noise=0.0, count=5, **dials):
    """Runs whose entries are ``values`` and noise of their own in every seed."""
    runs = synthetic.runs(count, cells=1, **dials)
    rng = np.random.default_rng(0)
    return [with_entries(run, values + noise * rng.normal(size=(E, K))) for run in runs]


def given(before=0.05, after=-0.05, shuffled=0.01, **dials) -> dict:
    pairs = {measures.INITIAL: before, measures.TRAINED: after, measures.FROZEN: after, measures.SHUFFLED: shuffled}
    return {label: group(values, 0.001, **dials) for label, values in pairs.items()}


def outcome(claim_id, results):
    found = measures.judge(claim_id, results)
    return found.direction, found.magnitude


def entry(value, rest):
    """All entries ``rest`` but one, ``value``."""
    values = np.full((E, K), rest)
    values[2, 3] = value
    return values


def few(count):
    """All entries 0 but the first ``count``, 0.05."""
    values = np.zeros((E, K))
    for position in range(count):
        values[position // (K - 1), 1 + position % (K - 1)] = 0.05
    return values


@pytest.mark.parametrize("claim_id", ["H1", "H2", "B7"])
def test_data_as_in_the_paper_reproduce_it(claim_id):
    assert outcome(claim_id, given()) == (REPRODUCED, REPRODUCED)
    assert set(measures.RECIPES) == set(given())


@pytest.mark.parametrize(
    ("claim_id", "dials", "expected"),
    [
        ("H1", {"before": -0.05}, (NOT_REPRODUCED, NOT_REPRODUCED)),
        ("H1", {"before": 0.0}, (NOT_REPRODUCED, NOT_REPRODUCED)),
        ("H1", {"before": entry(-0.05, 0.05)}, (REPRODUCED, PARTLY)),  # one entry of 35 is negative
        ("H1", {"before": few(20)}, (REPRODUCED, PARTLY)),  # 20 of 35 shown
        ("H1", {"before": few(15)}, (REPRODUCED, NOT_REPRODUCED)),
        ("H2", {"after": 0.01}, (PARTLY, NOT_REPRODUCED)),  # fell, and stayed positive
        ("H2", {"before": -0.2, "after": -0.1}, (PARTLY, REPRODUCED)),  # negative, and rose
        ("H2", {"before": -0.2, "after": 0.1}, (NOT_REPRODUCED, NOT_REPRODUCED)),
        ("H2", {"after": entry(0.05, -0.05)}, (REPRODUCED, PARTLY)),  # most negative, one shown to be positive
        ("H2", {"after": entry(0.0, -0.05)}, (REPRODUCED, REPRODUCED)),  # "most" is claimed, not all
        ("H2", {"after": -few(20)}, (REPRODUCED, REPRODUCED)),
        ("H2", {"after": -few(15)}, (REPRODUCED, NOT_REPRODUCED)),
        ("B7", {"shuffled": -0.05}, (NOT_REPRODUCED, NOT_REPRODUCED)),
        ("B7", {"shuffled": -0.0001}, (REPRODUCED, REPRODUCED)),  # next to nothing is left
        ("B7", {"shuffled": -0.01}, (REPRODUCED, PARTLY)),
        ("B7", {"after": 0.05, "shuffled": 0.1}, (REPRODUCED, NOT_REPRODUCED)),  # there was nothing to lose
        ("B7", {"shuffled": -0.04}, (REPRODUCED, NOT_REPRODUCED)),
    ],
)
def test_other_data_do_not(claim_id, dials, expected):
    assert outcome(claim_id, given(**dials)) == expected


@pytest.mark.parametrize("claim_id", ["H1", "H2", "B7"])
@pytest.mark.parametrize("count", [1, 4])
def test_fewer_than_five_seeds_test_nothing(claim_id, count):
    found = measures.judge(claim_id, given(count=count))
    assert (found.direction, found.magnitude, found.n) == (NOT_TESTED, NOT_TESTED, count)
    assert np.isfinite(found.estimate) and np.isnan(found.low) == (count == 1)


def test_runs_that_cannot_tell_say_why():
    for results, reason in (
        ({}, "none is among the runs here"),
        ({measures.INITIAL: synthetic.runs(5, statistics=False)}, "fixed weights"),
    ):
        found = measures.judge("H1", results)
        assert found.direction == NOT_TESTED and reason in found.sentence
    assert measures.judge("H2", {measures.TRAINED: group(-0.05, 0.001)}).direction == REPRODUCED, (
        "without a pair to fall from"
    )


def test_opposite_entries_are_named():
    sentence = measures.judge("H2", given(after=entry(0.05, -0.05))).sentence
    assert "34 of 35 entries" in sentence and "1 to be positive (`avg_pool_3x3` on e2 (0→3))" in sentence


def test_none_and_what_an_edge_lacks_are_no_entries():
    cell = space.minimal().without("skip_connect", (2, 3))
    runs = synthetic.runs(5, cell=cell)
    assert measures.signs(measures.entries(runs)).total == 34
    assert np.isnan(measures.entries(runs)[..., 0]).all()
    assert (np.isnan(measures.standard_errors(runs)) == np.isnan(measures.entries(runs))).all()


def test_signs_are_counted_by_their_interval_over_seeds():
    values = np.array([0.1, -0.1, 0.0])[:, None, None] * np.ones((3, 5, 1))  # entries, seeds
    values += 0.01 * np.random.default_rng(1).normal(size=values.shape)
    found = measures.signs(np.moveaxis(values, 0, 2))
    assert (found.total, found.positive, found.negative, found.open) == (3, 1, 1, 1)
    assert found.means(+1) + found.means(-1) == 3


def test_an_operation_drawn_once_or_in_one_seed_only_is_left_out_of_the_spread(recwarn):
    runs = group(0.05, 0.01)
    for run in runs:
        run.arrays["statistics_variance"][..., 0, 1] = np.nan  # drawn in a single batch
    for run in runs[1:]:
        run.arrays["statistics_mean"][..., 1, 2] = np.nan  # drawn in one seed
    found = measures.one_seed(runs, +1)
    assert np.isfinite([found.opposite, found.sampling, found.errors]).all() and not recwarn.list


def test_one_seed_is_judged_by_the_others():
    certain = measures.one_seed(group(0.05, 0.0001), +1)
    assert (certain.fewest, certain.most, certain.opposite) == (35, 35, 0)
    noise = measures.one_seed(group(0.0, 0.01, count=40), +1)
    assert 0.4 < noise.opposite < 0.6 and noise.fewest < 18 < noise.most
    assert measures.one_seed(group(0.05, count=1), -1).most == 0
    assert np.isnan(measures.one_seed(group(0.05, count=1), +1).opposite)


def test_variance_between_seeds_is_split_into_sampling_and_networks():
    """Noise between seeds of 0.01 with standard errors of 0.001 is networks; with standard errors of 0.01 it is sampling."""
    for error, low, high in ((0.001, 0.0, 0.05), (0.01, 0.6, 1.0)):
        runs = [with_entries(run, run.arrays["statistics_mean"][0], error) for run in group(0.05, 0.01, count=30)]
        assert low < measures.one_seed(runs, +1).sampling <= high


@pytest.mark.parametrize(
    ("costs", "epoch"),
    [
        ([1, 1, -1, -1], 2),
        ([-1, -1, -1], 0),
        ([1, 1, 1], np.nan),
        ([0, 0, 0], np.nan),
        ([3, -1, 2, -1, -4], 3),  # a dip that more cost follows is no crossing
        ([-1, 3, -1, -1], 2),
        ([2, -3, 2, 1, 1], np.nan),  # ends above zero by more than it fell
    ],
)
def test_crossing_parts_positive_from_negative_cost(costs, epoch):
    np.testing.assert_equal(measures.crossing(np.array(costs, dtype=float)), epoch)


def test_crossings_of_operations_edges_and_their_sum():
    runs = synthetic.runs(3, cells=1, train_cost=(0.4, -0.4), held_out=False, epochs=20)
    found = measures.crossings(runs)
    assert np.isnan(found.operations[..., 0]).all(), "none has no cost"
    for epochs in (found.operations[..., 1:], found.edges, found.cell):
        assert np.nanmin(epochs) > 5 and np.nanmax(epochs) < 15
    assert np.isnan(measures.crossings(synthetic.runs(2, cells=1, train_cost=(0.4, 0.9), held_out=False)).cell).all()


def test_steps_count_once_each():
    run = synthetic.result(cells=1, epochs=2)
    mean, count = np.zeros((2, 1, E, K)), np.zeros((2, 1, E, K))
    count[0, 0, :, 1], count[0, 0, :, 2] = 3, 1
    mean[0, 0, :, 1], mean[0, 0, :, 2] = 1.0, 5.0
    mean[1] = np.nan  # an epoch in which nothing was drawn
    changed = replace(
        run, arrays=MappingProxyType(dict(run.arrays) | {"step_cost_mean": mean, "step_cost_count": count})
    )
    np.testing.assert_allclose(cost_figures._edges([changed])[1][0, 0], 2.0)  # (3 · 1 + 1 · 5) / 4
    assert np.isnan(cost_figures._edges([changed])[1][0, 1]).all(), "nothing drawn, nothing known"


def test_labels_say_nothing_at_nine_tenths_and_something_beyond():
    left = [measures.information_left(share) for share in (0.0, 0.4, 0.9, 0.99, 1.0)]
    assert left[0] == pytest.approx(np.log(10)) and left[2] == pytest.approx(0, abs=1e-12)
    assert left[4] == pytest.approx(np.log(10 / 9)) and 0 < left[3] < left[4] < left[1]


def test_sentences_follow_the_numbers():
    assert "does not depend" in measures.idle_words(given())
    apart = given() | {measures.FROZEN: group(0.05, 0.001)}
    assert "**depends on" in measures.idle_words(apart)
    assert "upwards for 35 and downwards for 0 of 35" in measures.idle_words(apart)
    assert "are not shown to turn negative" in measures.shuffled_words(given())
    assert "**although there is next to nothing" in measures.shuffled_words(given(shuffled=-0.05))
    assert "below chance" not in measures.shuffled_words(given())
    avoiding = given()
    for run in avoiding[measures.SHUFFLED]:
        run.arrays["accuracy"][-1, 1] = 0.05 + 1e-3 * run.meta["seed"]
    assert "**below chance**" in measures.shuffled_words(avoiding)
    pair = given(count=2)
    assert "decides nothing" in measures.idle_words(pair) and "decides nothing" in measures.shuffled_words(pair)
    assert re.search(r"loss 1\.00 \[.*accuracy −(0\.9\d|1\.00) \[", measures.training_words(falling()))


def augmented(before_sum, plain_sum):
    """Trained runs whose edges' costs add up to these two numbers on augmented and on plain images."""
    runs = [replace(run, arrays=MappingProxyType(dict(run.arrays))) for run in group(8 / 7 / E * before_sum, 1e-4)]
    for run in runs:
        run.meta["config"]["data"]["augment"] = "crop-flip"
        run.arrays["edge_cost"][-1, 0] = (plain_sum + 1e-3 * run.meta["seed"]) / E
    return runs


def test_augmentation_is_said_to_matter_where_the_signs_differ():
    apart = augmented(-0.04, 0.08)
    (row,) = cells(cost_figures.images_table({measures.TRAINED: apart}))
    assert row[2] == "crop-flip"
    assert [cell.split(" ")[0] for cell in row[3:]] == ["−0.040", "0.082", "0.12"]
    assert "depends on whether the images are augmented" in cost_figures.images_words(apart)
    assert "both readings agree" in cost_figures.images_words(augmented(-0.04, -0.08))
    assert "not tested" in cost_figures.images_words(apart[:3])
    apart[0].meta["config"]["data"]["augment"] = "none"
    assert "no augmentation that could be why" in cost_figures.images_words(apart)


def falling():
    """Runs whose cost falls with the loss."""
    runs = synthetic.runs(5, cells=1, held_out=False, noise=0.0)
    for run in runs:
        jitter = 1e-4 * run.meta["seed"]
        run.arrays["train_loss"][:] = run.arrays["step_cost_mean"][:, 0].mean(-1).sum(-1) + jitter
        run.arrays["train_loss"][0] += 1e-3 + jitter
    return runs


FIGURES = {
    "one seed": lambda runs: cost_figures.one_seed_map({"before": runs, "after": runs}),
    "training": cost_figures.training,
    "crossing": cost_figures.crossing_curves,
    "output": cost_figures.output_cost,
    "sums": lambda runs: cost_figures.sums({"one": runs, "other": runs}),
}
RUNS = {
    "no held-out set": lambda: synthetic.runs(3, held_out=False),
    "one seed, two epochs, no skip": lambda: synthetic.runs(
        1, cell=space.minimal().without("skip_connect", (2, 3)), epochs=2
    ),
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_says_what_it_shows_and_is_readable(name, kind, recwarn):
    figure = FIGURES[name](RUNS[kind]())
    style.svg(figure)
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    assert len(figure.get_label()) > 40 and not re.search(r"\bnan\b", figure.get_label() + words(figure))
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 9


@pytest.mark.parametrize(
    ("name", "panel"), [("training", 2), ("output", 1), ("crossing", 0), ("crossing", 5), ("sums", 0)]
)
def test_cost_axes_have_a_zero_line_in_view(name, panel):
    axes = FIGURES[name](synthetic.runs(3, cells=1, train_cost=(3, 2), held_cost=(3, 2))).axes[panel]
    assert any(is_zero_line(line) for line in axes.lines) and axes.get_ylim()[0] <= 0


@pytest.mark.parametrize("rest", [0.05, -0.05])
def test_a_frame_marks_the_sign_that_the_other_seeds_contradict(rest):
    runs = group(rest, 0.001)
    runs[0] = with_entries(runs[0], entry(-rest, rest))
    axes = cost_figures.one_seed_map(runs).axes[0]
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    (centre,) = [(round(own.get_x() + 0.46), round(own.get_y() + 0.44)) for own in frames]
    assert centre == (3, 2)
    assert not cost_figures.one_seed_map(runs, seed=1).axes[0].patches
    with pytest.raises(summary.ReadingError, match="seed 9"):
        cost_figures.one_seed_map(runs, seed=9)


def test_training_draws_means_over_steps():
    runs = synthetic.runs(3, cells=1)
    axes = cost_figures.training(runs).axes
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), summary.stack(runs, "train_loss").mean(0))
    drawn = [line.get_ydata() for line in axes[2].lines if not is_zero_line(line)]
    total, count = measures.step_totals(runs)
    middle = (total[:, 9:12].sum((1, 3)) / count[:, 9:12].sum((1, 3))).mean(0)  # the window of three around epoch 11
    np.testing.assert_allclose([line[10] for line in drawn[:-1]], middle)
    np.testing.assert_allclose(drawn[-1], np.sum(drawn[:-1], axis=0))


def test_smoothing_pools_steps_within_the_run():
    total, count = np.array([[2.0, 0.0, 4.0, 6.0]]), np.array([[1.0, 0.0, 1.0, 2.0]])
    np.testing.assert_allclose(cost_figures._smooth(total, count), [[2.0, np.nan, 4.0, 3.0]])
    long = np.tile(total, 5)  # twenty epochs, hence a window of three
    np.testing.assert_allclose(cost_figures._smooth(long, np.tile(count, 5))[0, :4], [2.0, 3.0, 10 / 3, 3.0])
    assert [cost_figures.window(epochs) for epochs in (2, 20, 75, 150)] == [1, 3, 7, 15]


def cells(table):
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def test_tables_count_what_there_is():
    results = given(after=entry(0.05, -0.05))
    before, after = cells(cost_figures.sign_table(results))
    assert before[3:] == ["35", "35", "0", "0", "35"] and after[3:] == ["35", "34", "1", "0", "34"]
    assert [row[1] for row in cells(cost_figures.one_seed_table(results))] == ["35 to 35 of 35", "34 to 34 of 35"]
    assert len(cells(cost_figures.comparison_table(results))) == 4
    table = cells(cost_figures.crossing_table(results[measures.TRAINED]))
    assert len(table) == 9 and all(len(row) == 6 for row in table[:-1])
    for row in table[:-1]:
        assert all(re.match(r"\d+\.\d|never", cell) for cell in row[1:]), row
    # Epochs are counted: only a mean of several lies in between.
    assert cost_figures._epoch_words(np.array([3.0])) == "3"
    assert cost_figures._epoch_words(np.array([2.0, np.nan, 4.0])).endswith("(2 of 3)")
    assert cost_figures._epoch_words(np.array([np.nan])) == "never"


def test_initial_runs_have_no_crossing():
    results = given()
    bare = [
        replace(
            run, arrays=MappingProxyType({name: own for name, own in run.arrays.items() if not name.startswith("step")})
        )
        for run in results[measures.INITIAL]
    ]
    assert cells(cost_figures.comparison_table({measures.INITIAL: bare}))[0][4] == "–"


def test_paper_scale_stands_beside_or_names_its_command():
    results = given()
    words_ = cost_figures.paper_scale_words(results, {})
    assert "run reference_cost_trained --scale paper --seeds 0" in words_ and cost_figures.beside(results, {}) == {}
    one = {measures.TRAINED: group(-0.02, count=1, scale="paper", epochs=40)}
    panels = cost_figures.beside(results, one)
    assert list(panels) == ["after training, scale small, 5 seeds", "after training, scale paper, one seed"]
    assert "| after training, scale paper, one seed | 1 |" in cost_figures.paper_scale_words(results, one)
    figure = cost_figures.sums(panels)
    assert figure.axes[0].get_xlabel() == "share of training"
    own = {label: group(0.1, count=1, scale="paper") for label in results}
    assert "themselves" in cost_figures.paper_scale_words(own, own) and cost_figures.beside(own, own) == {}


# Where it is not reproduced


def test_a_single_run_counts_its_signs_inside_itself():
    run = group(entry(-0.05, 0.05), count=1)
    noisy = [with_entries(run[0], entry(-0.05, 0.0015), error=0.001)]
    assert cost_reasons.count_words(run) == "34, 1, 0 (inside the run)"
    assert cost_reasons.count_words(noisy) == "0, 1, 34 (inside the run)"
    assert cost_reasons.count_words(group(0.05, 0.001)) == "35, 0, 0"
    assert "34, 1, 0 (inside the run)" in cost_figures.comparison_table({"one": run})


def test_how_many_seeds_a_sign_needs():
    values = np.array([1.0, 2.0, 3.0])  # |mean| is two standard deviations
    needed = cost_reasons.seeds_needed(values)
    assert 2 * np.sqrt(needed) > cost_reasons.stats.t.ppf(0.975, needed - 1)
    assert 2 * np.sqrt(needed - 1) <= cost_reasons.stats.t.ppf(0.975, needed - 2)
    assert cost_reasons.seeds_needed(values - 2, most=50) == 50
    assert cost_reasons.seeds_needed(np.array([1.0, np.nan]), most=50) == 50, "one value has no spread"
    words_ = cost_reasons.seeds_words({measures.INITIAL: group(0.01, 0.03)})
    assert re.search(r"the sign of \d+ of 35 entries is open", words_) and "against the 5 there are" in words_
    assert "every entry is shown" in cost_reasons.seeds_words({measures.INITIAL: group(0.05, 1e-4)})
    assert "A single run" in cost_reasons.seeds_words({measures.INITIAL: group(0.05, count=1)})


def test_an_entry_that_stays_positive_is_followed_to_the_papers_scale():
    results = given(after=entry(0.05, -0.05))
    table = cost_reasons.odd_table(
        {measures.TRAINED: results[measures.TRAINED], "long": group(entry(0.02, -0.05), count=1)}
    )
    assert table.count("\n") == 2 and "on e2" in table and "0.020 ± 0.0010" in table
    also = {measures.TRAINED: group(entry(0.02, -0.05), count=1)}
    assert "neither width nor length nor data" in cost_reasons.odd_words(results, also)
    turned = {measures.TRAINED: group(-0.05, count=1)}
    assert "0 of 1 are positive as well" in cost_reasons.odd_words(results, turned)
    assert "none is recorded" in cost_reasons.odd_words(results, {})
    assert cost_reasons.odd_words(given(), also) == "" and "No entry" in cost_reasons.odd_table(given())


def ending(after, augment, spread=0.001):
    """Trained runs whose L − H on plain training images ends at ``after``."""
    runs = [with_entries(run, -0.01) for run in synthetic.runs(5, cells=1, train_cost=(0.1, after), noise=spread)]
    for run in runs:
        run.meta["config"]["data"]["augment"] = augment
    return runs


@pytest.mark.parametrize(
    ("with_", "without", "words_"),
    [
        (
            0.08,
            -0.05,
            "Augmentation explains all of the positive sign. Without it the sign that the paper has is shown.",
        ),
        (
            0.08,
            0.02,
            "Augmentation explains a part of the positive sign. Without it the sign is still shown to be positive.",
        ),
        (0.08, 0.0801, "Augmentation is not shown to be the reason."),
        (-0.08, -0.05, "T2 needs no other reason"),
    ],
)
def test_what_augmentation_explains_is_the_paired_change(with_, without, words_):
    found = cost_reasons.plain_words(ending(with_, "crop-flip"), ending(without, "none")[::-1])
    assert words_ in found


def test_the_control_of_the_images_stands_beside_the_trained_runs():
    table = cells(cost_reasons.plain_table({"a": ending(0.08, "crop-flip"), "b": ending(-0.05, "none")}))
    assert [row[2] for row in table] == ["crop-flip", "none"] and [row[4].split(" ")[0] for row in table] == [
        "0.080",
        "−0.050",
    ]


def test_an_evaluation_says_how_few_architectures_it_draws():
    run = synthetic.result()
    run.meta["config"] |= {"batch_size": 64, "evaluation_images": 512, "statistics_epochs": 25}
    words_ = cost_reasons.evaluation_words([run])
    assert "its 8 batches, 512 images in all" in words_ and "25 passes over 1000 images" in words_


def test_what_would_settle_it_are_the_seeds_that_are_not_recorded():
    commands = cost_reasons.settling({measures.TRAINED: group(0.1, count=1, scale="paper")})
    assert "reference_cost_trained --scale paper --seeds 1-4" in commands
    assert "reference_cost_initial --scale paper --seeds 0-4" in commands
    assert "corrected_cost_plain --scale paper --seeds 0-4" in commands


# From parameters to runs


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_RESULTS_ROOT", str(tmp_path / "results"))
    monkeypatch.delenv("NAS_RESULTS", raising=False)
    return tmp_path / "results"


def test_overrides_reach_only_the_runs_that_they_are_about(monkeypatch):
    asked, said = {}, []

    def collect(parameters, recipes, say):
        say("Dataset digits.")
        asked.update(dict.fromkeys(recipes, parameters))
        return {label: synthetic.runs(2, first=3) for label in recipes}

    monkeypatch.setattr(measures.recorded_runs, "collect", collect)
    results = measures.collect(Parameters(scale="tiny", epochs=7, label_noise=0.2), said.append)
    assert list(results) == list(measures.RECIPES)
    assert said == ["Dataset digits."], "said once"
    order = list(measures.RECIPES)
    assert [asked[label].epochs for label in order] == [None, 7, 7, 7]
    assert [asked[label].label_noise for label in order] == [0.2, 0.2, 0.2, 0.9]
    assert [asked[label].seeds for label in order] == [(3, 4), None, None, (3, 4)]
    measures.collect(Parameters(scale="tiny"), said.append)
    assert [asked[label].seeds for label in order] == [None, None, None, (3, 4)], (
        "equal parameters share what is recorded"
    )


def test_paper_scale_is_read_and_never_computed(root, monkeypatch):
    assert measures.recorded("paper") == {} and not root.exists()
    store = Store()
    config = measures.with_dataset(measures.EVERY_RECIPE["reference_cost_trained"]("paper"), "cifar10-jpeg", "0" * 64)
    job = Job("search", config, 4, "reference_cost_trained", "paper")
    store.write(job, {"accuracy": np.zeros((1, 2))}, {"device": "cpu"})
    found = measures.recorded("paper")
    assert list(found) == [measures.TRAINED] and [run.meta["seed"] for run in found[measures.TRAINED]] == [4]
    assert measures.recorded("small") == {}


def test_the_chapter_names_the_papers_figures():
    notebook = nbformat.read(ROOT / "book" / "05_cost_statistics.ipynb", 4)
    names = [cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in notebook.cells]
    assert {"paper-fig-4", "paper-fig-7", "paper-fig-21", "paper-fig-24"} <= set(names)


def test_skips_on_intermediate_edges_are_compared_with_the_operations_beside_them():
    runs = group(0.05, 0.0)
    for run in runs:
        run.arrays["step_cost_mean"][:, -1] = 0.01
        run.arrays["step_cost_mean"][:, -1, 4, space.SKIP] = -0.04
        run.arrays["step_cost_mean"][:, -1, 0, space.SKIP] = 9.0  # on an input edge: not the exception
    epochs, skip, others = cost_figures.skip_sizes(runs)
    assert len(epochs) == skip.shape[1] and np.allclose(skip, 0.04) and np.allclose(others, 0.01)
    assert "skip_connect 0.040 at first" in cost_figures.skip_course(runs).get_label()
    assert "4.00 [" in cost_figures.skip_words(runs) and "larger, not smaller" in cost_figures.skip_words(runs)
    for seed, run in enumerate(runs):
        run.arrays["step_cost_mean"][:, -1, 4, space.SKIP] = 0.001 * (seed + 1)
    assert "smaller, as the paper says" in cost_figures.skip_words(runs)
    runs[0].arrays["step_cost_mean"][:, -1, 4, space.SKIP] = 0.05
    assert "not shown to be smaller" in cost_figures.skip_words(runs)
    without = [synthetic.result(seed, space.minimal().without("skip_connect", 4), cells=1) for seed in range(5)]
    with pytest.raises(summary.ReadingError, match="no skip_connect on an intermediate edge"):
        cost_figures.skip_sizes(without)
