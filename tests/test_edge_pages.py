"""Section 5.3 on the page: what is averaged and compared, verdicts on data that should flip them, and the figures."""

import re

import matplotlib
import numpy as np
import pytest

from nas_core import space
from nas_core.lab.ablations import ABLATIONS
from nas_core.lab.recipes import RECIPES
from nas_core.pages import edge_figures, edge_tables, style, summary
from nas_core.pages import edge_measures as measures
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED
from nas_core.pages.evidence import CannotTell
from nas_core.space import NONE, OPERATIONS
from tests import synthetic

CONVOLUTION, POOL = OPERATIONS.index("sep_conv_5x5"), OPERATIONS.index("max_pool_3x3")
AS_THE_PAPER = dict.fromkeys(measures.SETTINGS, 0.1) | {"28c": -0.1, "28d": -0.1, measures.EQUAL: 0.0}
FIRST_FIXED = measures.FIRST_FIXED


def setting(label, apart, count=5, noise=0.01, first=0):
    """Runs of a setting in which (1,2) costs ``apart`` more than (0,2), give or take ``noise``, at any time."""
    cell, recipe = measures.SETTINGS[label].cell, measures.RECIPES[label]
    runs = synthetic.runs(count, first, cell=cell, cells=1, recipe=recipe, train_cost=(0.0, 0.0), noise=0.0)
    for run in runs:
        shift = apart + noise * np.random.default_rng([run.meta["seed"], list(measures.SETTINGS).index(label)]).normal()
        for name in ("step_cost_mean", "cost_mean", "statistics_mean"):
            values = run.arrays[name]
            values[...] = np.where(np.isfinite(values), 0.3, np.nan)
            values[..., cell.index((1, 2)), :] += shift
            values[..., NONE] = np.where(np.isfinite(values[..., NONE]), 0.0, np.nan)
    return runs


def every(**apart):
    return {label: setting(label, value) for label, value in (AS_THE_PAPER | apart).items()}


@pytest.fixture(scope="module")
def paper():
    return every()


def outcome(claim_id, results):
    verdict = measures.judge(claim_id, results)
    return verdict.direction, verdict.magnitude


def test_every_setting_has_a_label_and_a_recipe():
    assert set(measures.RECIPES.values()) == set(ABLATIONS)
    assert set(measures.RECIPES.values()) | set(measures.IDLE.values()) <= set(RECIPES)
    assert measures.SIMPLIFIED == tuple(f"27{letter}" for letter in "abcdef")
    assert measures.MODIFIED == tuple(f"28{letter}" for letter in "abcd")
    for (edge, level), label in measures.FACTORS.items():
        own = measures.SETTINGS[label]
        operations = own.cell.edges[own.cell.index((0, 1))].operations
        assert own.has_output_edge == (edge == "kept")
        assert {"sampled": 8, "never none": 7, "fixed": 1}[level] == len(operations)


def test_idle_words_are_the_recipes_own():
    for label, recipe in measures.RECIPES.items():
        idle = RECIPES[recipe]("tiny").theta.idle
        assert measures.idle_words(label) == {"moving": "move", "frozen": "stand still"}[idle]


# What is averaged and compared


def test_differences_compare_the_operations_that_both_edges_have():
    runs = setting("27b", 0.0, noise=0.0)
    cell = measures.SETTINGS["27b"].cell
    for run in runs:
        run.arrays["statistics_mean"][0, cell.index((0, 2)), CONVOLUTION] = 99.0  # (1,2) has no convolution
        run.arrays["statistics_mean"][0, :, NONE] = -99.0
        run.arrays["statistics_mean"][0, cell.index((1, 2)), POOL] += 0.3 + run.meta["seed"]
    np.testing.assert_allclose(measures.differences(runs, "end"), (0.3 + np.arange(5)) / 3)
    assert np.isnan(measures.differences(runs, "end", only=("sep_conv_5x5",))).all()
    np.testing.assert_allclose(measures.differences(runs, "end", only=("max_pool_3x3",)), 0.3 + np.arange(5))


def test_two_settings_are_compared_over_the_operations_that_they_share():
    assert measures.shared("27a", "27b") == ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3")
    assert measures.shared("27f", measures.FIRST_FIXED) == ("sep_conv_5x5",)
    given = {label: setting(label, 0.1, noise=0.0) for label in ("27f", measures.FIRST_FIXED)}
    for run in given[measures.FIRST_FIXED]:
        run.arrays["statistics_mean"][0, 2] = 9.0
        run.arrays["statistics_mean"][0, 2, CONVOLUTION] = 0.3 + 0.001 * run.meta["seed"]
    first, second = measures.contrast(given, "27f", measures.FIRST_FIXED)
    np.testing.assert_allclose(first, 0.1)
    np.testing.assert_allclose(second, 0.001 * np.arange(5), atol=1e-12)


def test_fed_samples_have_the_zeros_of_dead_inputs_divided_out():
    runs = setting("27a", -0.3 / 8, noise=0.0)  # 0.3 on (0,2), seven eighths of it on (1,2)
    np.testing.assert_allclose(measures.differences(runs, "end"), -0.3 / 8)
    np.testing.assert_allclose(measures.differences(runs, "end", fed=True), 0, atol=1e-12)
    fixed = setting(measures.FIRST_FIXED, -0.1, noise=0.0)
    np.testing.assert_allclose(measures.differences(fixed, "end", fed=True), -0.1)


def test_training_weighs_epochs_by_how_often_the_operation_was_drawn():
    (run,) = setting("27a", 0.0, count=1, noise=0.0)
    cell = measures.SETTINGS["27a"].cell
    mean, count = run.arrays["step_cost_mean"], run.arrays["step_cost_count"]
    mean[..., cell.index((1, 2)), :] = np.nan
    count[..., cell.index((1, 2)), :] = 0
    for epoch, (value, times) in enumerate([(1.0, 3), (2.0, 1)]):
        mean[epoch, 0, cell.index((1, 2)), CONVOLUTION] = value
        count[epoch, 0, cell.index((1, 2)), CONVOLUTION] = times
    np.testing.assert_allclose(measures.costs([run], "training")[0, cell.index((1, 2)), CONVOLUTION], 1.25)
    np.testing.assert_allclose(measures.differences([run], "training"), 1.25 - 0.3)
    epochs, values = measures.difference_curve([run], points=10)
    np.testing.assert_allclose(epochs[:2], [1, 3])
    np.testing.assert_allclose(values[0, 0], 1.25 - 0.3)
    assert np.isnan(values[0, 1:]).all()


def test_before_training_both_sets_of_images_count():
    (run,) = setting("27a", 0.0, count=1, noise=0.0)
    run.arrays["cost_mean"][0, 0, :, 2] += 0.2
    run.arrays["cost_mean"][1:, :, :, 2] += 9.0
    np.testing.assert_allclose(measures.differences([run], "initial"), 0.1)


def test_edge_averages_leave_out_none_and_what_was_not_drawn():
    (run,) = setting("27a", 0.0, count=1, noise=0.0)
    run.arrays["step_cost_mean"][0, 0, 0] = np.nan
    run.arrays["step_cost_mean"][0, 0, 0, NONE] = 0.0
    run.arrays["step_cost_mean"][0, 0, 0, [CONVOLUTION, POOL]] = (1.0, 2.0)
    found = measures.edge_averages([run])
    assert found.shape == (1, 20, 3) and found[0, 0, 0] == 1.5 and found[0, 1, 0] == pytest.approx(0.3)


def test_the_minimal_cell_compares_its_intermediate_edge_with_both_input_edges_of_its_node():
    assert measures.rivals(space.minimal()) == ([4], [2, 3])
    runs = synthetic.runs(2, cells=1)
    for run in runs:
        run.arrays["statistics_mean"][0] = np.arange(5.0)[:, None]
    np.testing.assert_allclose(measures.differences(runs, "end"), 4 - 2.5)
    with pytest.raises(CannotTell, match="no node"):
        measures.differences(synthetic.runs(2, cell=space.darts(1)), "end")


# How often edges are trained


def test_doses_by_hand():
    dose = {label: measures.dose(own) for label, own in measures.SETTINGS.items()}
    assert (dose["27a"].between, dose["27a"].direct, dose["27a"].inputs) == (7 / 64, 1 / 8, 7)
    assert np.isnan(dose["27b"].lead)
    assert dose["27c"].between == pytest.approx(7 / 40) and dose["27c"].lead > 0
    assert dose["27f"].direct == pytest.approx(1) and dose["27f"].lead == pytest.approx(-3)
    for label in (measures.EQUAL, measures.NEVER_NONE, measures.FIRST_FIXED, "28b", "28c"):
        assert dose[label].lead == pytest.approx(0), label
    assert dose["27a"].path_lead == pytest.approx(-3) and dose["27e"].path_lead == pytest.approx(-2)
    assert dose["28c"].path_lead == pytest.approx(0) and dose["28c"].inputs == 1 and dose["27e"].inputs == 3


def test_equal_training_trains_every_operation_of_both_edges_equally_often():
    cell = measures.training_cell(measures.SETTINGS[measures.EQUAL])
    shares = measures.update_shares(cell)
    np.testing.assert_allclose(shares[cell.index((1, 2))], shares[cell.index((0, 2))])


# Verdicts


def test_data_as_in_the_paper_reproduce_it(paper):
    for claim_id in measures.MEASURES:
        assert outcome(claim_id, paper) == (REPRODUCED, REPRODUCED), claim_id
    assert "in 6 of 6 settings" in measures.judge("R2", paper).sentence


def test_three_settings_are_partly_and_two_are_not():
    less = {label: -0.1 for label in ("27a", "27b", "27c")}
    verdict = measures.judge("R2", every(**less))
    assert (verdict.direction, verdict.magnitude) == (PARTLY, PARTLY)
    assert "in 3 of 6 settings (27d, 27e, 27f) and less in 3 (27a, 27b, 27c)" in verdict.sentence
    assert outcome("R2", every(**less, **{"27d": 0.0})) == (NOT_REPRODUCED, NOT_REPRODUCED)


def test_the_order_need_not_hold_during_training(paper):
    given = every()
    for label in measures.SIMPLIFIED[:4]:
        for run in given[label]:
            run.arrays["step_cost_mean"][...] = 0.0
    assert outcome("R2", given) == (REPRODUCED, NOT_REPRODUCED)


def test_the_reversal_needs_both_cells_and_grades_whether_both_factors_are_needed():
    assert outcome("R2-ctrl", every(**{"28c": 0.1})) == (PARTLY, REPRODUCED)
    assert outcome("R2-ctrl", every(**{"28c": 0.1, "28d": 0.1})) == (NOT_REPRODUCED, NOT_REPRODUCED)
    assert outcome("R2-ctrl", every(**{"28a": -0.1})) == (REPRODUCED, PARTLY)
    assert outcome("R2-ctrl", every(**{"28a": -0.1, "28b": -0.1})) == (REPRODUCED, NOT_REPRODUCED)
    assert outcome("R2-ctrl", every(**{FIRST_FIXED: -0.02})) == (REPRODUCED, PARTLY), "one factor is enough"
    without = every()
    del without[FIRST_FIXED]
    assert outcome("R2-ctrl", without) == (REPRODUCED, PARTLY), "what was not tested is not shown"


def test_a_sentence_says_what_fixing_does_alone_and_what_removing_adds(paper):
    assert "fixing alone is not shown to reverse the order." in measures.alone_words(paper)
    found = measures.alone_words(every(**{FIRST_FIXED: -0.05}))
    assert "fixing (0,1) alone reverses the order, and removing the edge as well enlarges the reversal (28c" in found
    assert found in measures.judge("R2-ctrl", every(**{FIRST_FIXED: -0.05})).sentence
    assert "as well enlarges the reversal is not shown (" in measures.alone_words(every(**{FIRST_FIXED: -0.3}))
    assert measures.alone_words({FIRST_FIXED: setting(FIRST_FIXED, -0.1)}).endswith("alone reverses the order.")
    assert "too few seeds" in measures.alone_words({FIRST_FIXED: setting(FIRST_FIXED, -0.1, count=4)})
    assert measures.alone_words({}).endswith("is not recorded.")


@pytest.mark.parametrize(
    ("left", "expected"),
    [(0.03, (REPRODUCED, PARTLY)), (0.07, (REPRODUCED, NOT_REPRODUCED)), (0.1, (NOT_REPRODUCED,) * 2),
     (0.2, (NOT_REPRODUCED,) * 2)],
)  # fmt: skip
def test_equal_training_is_graded_by_what_it_leaves(left, expected):
    assert outcome("B7", every(**{measures.EQUAL: left})) == expected


def test_equal_training_is_judged_where_idle_weights_stand_still_on_both_sides():
    """Moving idle weights alone would lift Fig 27a here; that is no effect of equal training."""
    assert outcome("B7", every(**{"27a": 0.4, measures.STILL: 0.0})) == (NOT_REPRODUCED,) * 2
    assert not measures.SETTINGS[measures.STILL].figure and measures.idle_words(measures.STILL) == "stand still"
    usual, still = (measures.SETTINGS[label] for label in ("27a", measures.STILL))
    assert (usual.cell, usual.relaxation) == (still.cell, still.relaxation)
    for words, (label, other) in edge_tables.STEPS.items():
        same = measures.idle_words(label) == measures.idle_words(other)
        assert same or words.startswith("idle") or label == "27f", "one cause a step"


def test_nothing_is_left_only_if_its_interval_says_so():
    given = every() | {measures.EQUAL: setting(measures.EQUAL, 0.012, noise=0.03)}
    left = measures.differences(given[measures.EQUAL], "end")
    assert summary.interval(left)[0] < 0.01 and summary.interval(left)[2] > 0.024
    assert outcome("B7", given) == (REPRODUCED, PARTLY)


def test_equal_training_is_paired_by_seed():
    given = {measures.STILL: setting(measures.STILL, 0.1, first=2)}
    given[measures.EQUAL] = setting(measures.EQUAL, 0.0, count=9)[::-1]
    for run in (*given[measures.STILL], *given[measures.EQUAL]):  # the seeds differ far more than the settings do
        run.arrays["statistics_mean"][0, 2] += 5.0 * run.meta["seed"]
    verdict = measures.judge("B7", given)
    assert verdict.n == 5 and verdict.estimate == pytest.approx(-0.1, abs=0.02) and verdict.direction == REPRODUCED


@pytest.mark.parametrize("claim_id", measures.MEASURES)
def test_few_seeds_and_missing_settings_test_nothing(claim_id, paper):
    few = {label: runs[:4] for label, runs in paper.items()}
    assert outcome(claim_id, few) == (NOT_TESTED, NOT_TESTED)
    verdict = measures.judge(claim_id, {"27a": paper["27a"]})
    assert (verdict.direction, verdict.n) == (NOT_TESTED, 0) and "none is among the runs here" in verdict.sentence
    no_passes = {label: synthetic.runs(5, cell=measures.SETTINGS[label].cell, statistics=False) for label in paper}
    assert "no passes" in measures.judge(claim_id, no_passes).sentence


def test_effects_of_the_factors_by_hand():
    values = {"27a": 0.4, measures.NEVER_NONE: 0.3, measures.FIRST_FIXED: 0.2, "28a": 0.3, "28b": 0.1, "28c": -0.2}
    found = measures.factorial({label: setting(label, value, noise=0.0) for label, value in values.items()})
    means = {words: effect.mean() for words, effect in found.items()}
    assert list(means.values()) == pytest.approx([-(0.1 + 0.2 + 0.4) / 3, -0.15, -0.35, -0.3])


@pytest.mark.parametrize("which", ["lead", "path_lead"])
def test_the_slope_is_that_of_a_line_over_the_settings_asked_for(which):
    doses = {label: getattr(measures.dose(own), which) for label, own in measures.SETTINGS.items()}
    given = {label: setting(label, 0.05 - 0.2 * lead, noise=0.0) for label, lead in doses.items() if np.isfinite(lead)}
    for label, runs in given.items():  # differences on fed samples: undo the division beforehand
        share = measures.fed_shares(measures.SETTINGS[label].cell)
        for run in runs:
            run.arrays["statistics_mean"][...] *= share[:, None]
    assert "27b" not in measures.responses(given)
    np.testing.assert_allclose(measures.slopes(given, which), -0.2)
    for run in given["27f"]:
        run.arrays["statistics_mean"][...] = 9.0
    np.testing.assert_allclose(measures.slopes(given, which, ("27a", "27c", "27d", "27e", "28c")), -0.2)
    with pytest.raises(CannotTell, match="at least three"):
        measures.slopes(given, which, ("27a", "27c"))
    with pytest.raises(CannotTell, match="no dose"):
        measures.slopes(given, "lead", (measures.EQUAL, measures.NEVER_NONE, "28b"))


def test_predictions_are_those_that_the_runs_can_test(paper):
    found = {own.words: own for own in measures.predictions(paper)}
    assert len(found) == 14 and all(np.isfinite(own.values).all() for own in found.values())
    change = found["fixing (0,1) lowers it against never none"]
    assert change.cause == "sharing" and abs(change.values.mean()) < 0.02
    few = {label: paper[label] for label in ("27a", measures.STILL, measures.EQUAL)}
    assert [own.expected for own in measures.predictions(few)][:3] == [0, 0, -1]
    del few[measures.STILL]
    assert [own.expected for own in measures.predictions(few)] == [0, 0], "idle weights must do the same on both sides"


def test_predictions_say_as_predicted_contradicted_and_compatible():
    rng = np.random.default_rng(0)
    noise, above = rng.normal(size=5), 1 + 0.1 * rng.normal(size=5)
    cases = [
        (noise - noise.mean(), 0, "compatible"),
        (above, 0, "contradicted"),
        (-above, 0, "compatible"),
        (-above, -1, "as predicted"),
        (above, -1, "contradicted"),
        (noise - noise.mean(), -1, "not shown"),
        (above[:4], 0, "too few"),
    ]
    for values, expected, words in cases:
        assert edge_tables._outcome(values, expected).startswith(words)


# Tables and figures


def test_the_statement_on_three_edges_is_about_three_edges(paper):
    words = edge_tables.highest_words(paper)
    assert "in 28a the highest mean is that of (1,2); (1,2) is the highest of the three in 5 of 5 seeds" in words
    given = {"28a": setting("28a", 0.1)}
    cell = measures.SETTINGS["28a"].cell
    for run in given["28a"]:
        run.arrays["statistics_mean"][:, cell.index((0, 1)), 1:] = 0.9
    words = edge_tables.highest_words(given)
    assert (
        "in 28a the highest mean is that of (0,1); (1,2) is the highest of the three in 0 of 5 seeds, its mean minus the highest of the others −0.49 ["
        in words
    )
    assert "28b the" not in words and "none is given" in edge_tables.highest_words({})


TABLES = {
    "difference": edge_tables.difference_table,
    "cost": edge_tables.cost_table,
    "dose": edge_tables.dose_table,
    "factor": edge_tables.factor_table,
    "step": edge_tables.step_table,
    "prediction": edge_tables.prediction_table,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_a_table_without_missing_words(name, paper):
    lines = TABLES[name](paper).splitlines()
    assert len(lines) > 4 and len({line.count("|") for line in lines}) == 1
    assert not re.search(r"\bnan\b|unknown", "\n".join(lines))


def test_cost_table_counts_the_seeds_in_which_the_edge_is_on_top():
    given = {"27a": setting("27a", 0.1)}
    for run in given["27a"][:2]:
        run.arrays["statistics_mean"][0, 2] = -1.0
    assert edge_tables.cost_table(given).splitlines()[-1].endswith("| 3 of 5 | 2 of 5 |")


def test_exact_costs_before_training_are_zero_nowhere_and_missing_where_there_is_no_candidate():
    found = edge_tables.exact_initial(range(2))
    assert found.shape == (2, 3, len(OPERATIONS))
    candidates = [OPERATIONS.index(name) for name in ("skip_connect", "max_pool_3x3", "sep_conv_3x3")]
    assert np.isfinite(found[..., candidates]).all() and np.abs(found[..., candidates]).min() > 0
    assert np.isnan(np.delete(found, candidates, axis=-1)).all()
    assert len(edge_tables.exact_table(found).splitlines()) == 2 + 4


FIGURES = {
    "8": lambda runs: edge_figures.two_cells(),
    "9a": lambda runs: edge_figures.together({label: runs[label] for label in measures.SIMPLIFIED}),
    "9b": lambda runs: edge_figures.averages({"28c": runs["28c"]}),
    "27": lambda runs: edge_figures.averages({label: runs[label] for label in measures.SIMPLIFIED}),
    "28": lambda runs: edge_figures.averages({label: runs[label] for label in measures.MODIFIED}),
    "forest": edge_figures.forest,
    "factors": edge_figures.factors,
    "response": edge_figures.response,
}


@pytest.mark.parametrize("count", [5, 1])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_says_what_it_shows_and_is_readable(name, count, paper, recwarn):
    figure = FIGURES[name]({label: runs[:count] for label, runs in paper.items()})
    markup = style.svg(figure)
    assert markup == style.svg(FIGURES[name]({label: runs[:count] for label, runs in paper.items()}))
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    assert len(figure.get_label()) > 40 and "nan" not in figure.get_label()
    assert min(text.get_fontsize() for text in figure.findobj(lambda own: hasattr(own, "get_fontsize"))) >= 9


def test_a_panel_shows_the_averages_of_its_setting_with_a_zero_line(paper):
    groups = {label: paper[label] for label in measures.SIMPLIFIED}
    for axes, runs in zip(edge_figures.averages(groups).axes, groups.values(), strict=True):
        zero, curves = [], []
        for line in axes.lines:
            (zero if np.array_equal(np.asarray(line.get_ydata(), dtype=float), [0, 0]) else curves).append(line)
        assert len(zero) == 1 and axes.get_ylim()[0] <= 0 <= axes.get_ylim()[1]
        means = measures.edge_averages(runs).mean(axis=0)
        cell = summary.cell_of(runs[0])
        for line, edge in zip(curves, ((0, 1), (0, 2), (1, 2)), strict=True):
            np.testing.assert_allclose(line.get_ydata(), means[:, cell.index(edge)])


def test_figure_8_has_an_arrow_for_every_output_edge_that_hands_something_on():
    panels = edge_figures.two_cells().axes
    arrows = [len(axes.findobj(matplotlib.patches.FancyArrowPatch)) for axes in panels]
    assert arrows == [2 + 2 + 1 + 1, 2 + 3, 1 + 3, 1 + 2]


def test_runs_too_short_to_draw_every_operation_are_shown_without_missing_words(recwarn):
    given = {label: setting(label, 0.1, count=3) for label in measures.SETTINGS}
    for run in (*given["27b"], *given["27a"], *given["28c"]):
        for name in ("step_cost_mean", "cost_mean", "statistics_mean"):
            run.arrays[name][...] = np.nan
    for name in ("9a", "9b", "forest", "factors", "response"):
        figure = FIGURES[name](given)
        style.svg(figure)
        assert "not measured" in figure.get_label() and "nan" not in figure.get_label()
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    assert "unknown" in edge_tables.difference_table(given) and "nan" not in edge_tables.step_table(given)


def test_figure_8_lets_no_cost_reach_the_first_edge_of_the_modified_cell():
    words = edge_figures.two_cells().get_label()
    simple, changed = words.split("The modified cell.")
    assert "Cost reaches (0,1) from output edge (1,3), (0,2) from output edge (2,3)" in simple
    assert "Gradient reaches (0,1) from output edge (1,3) and output edge (2,3)" in simple
    assert "Cost reaches (0,1) from no output edge" in changed
