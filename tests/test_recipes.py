"""Recipes: the published values at the paper's scale, and what the smaller scales may change."""

import dataclasses
import itertools

import pytest

from nas_core.config import AlphaConfig, SearchConfig, ThetaConfig
from nas_core.lab.ablations import ABLATIONS
from nas_core.lab.experiments import configure
from nas_core.lab.recipes import CROSSED, CROSSED_DATA, RECIPES, SCALES, VARIANTS, crossed_name
from nas_core.lab.variations import CONTROLS, PHASE, SIZES, UNIVERSAL
from nas_core.relaxation import Darts, Dsnas, Proxyless, RandomReward, Snas, Uniform
from nas_core.space import darts, minimal


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_configuration_and_a_first_line(name, scale):
    config = RECIPES[name](scale)
    assert name.startswith(("reference_", "corrected_")) or not isinstance(config, SearchConfig)
    assert RECIPES[name].__doc__.strip()
    assert config.data.dataset == ("digits" if scale == "tiny" else "cifar10")


def test_the_published_bilevel_search():
    config = RECIPES["reference_darts_bilevel"]("paper")
    assert (config.level, config.alpha_data, config.second_order) == ("bi", "held_out", False)
    assert (config.epochs, config.batch_size, config.data.held_out) == (50, 96, 0.5)
    assert config.theta == ThetaConfig(0.025, 0.001, 0.9, 3e-4, 5.0)
    assert config.alpha == AlphaConfig(3e-4, (0.5, 0.999), 1e-3, 10.0, 0.0, 1e-3)
    assert (config.network.cells, config.network.cell, config.network.channels) == (8, darts(4), 16)
    assert not config.network.head_bias and not config.network.reduction
    assert (config.data.images, config.data.size, config.data.augment) == (None, None, "crop-flip")


def test_the_published_curves_hold_alpha_fixed():
    config = RECIPES["reference_darts_curves"]("paper")
    assert config.alpha is None and config.batch_size == 64 and config.epochs == 50
    assert config.network.cells == 1
    assert config.network.cell == minimal().without("skip_connect", 4), "else the costs do not add up to L − H"


def test_the_published_single_level_search():
    config = RECIPES["reference_dsnas"]("paper")
    assert config.relaxation == Dsnas("reference", 5.0) and config.theta.idle == "moving"
    assert (config.level, config.alpha_data, config.data.held_out, config.epochs) == ("single", "same", 0.0, 150)
    assert (config.alpha.initial_mean, config.alpha.initial_std) == (1.0, 0.01)
    assert RECIPES["corrected_dsnas"]("paper").relaxation == Dsnas()


def test_the_published_cost_statistics():
    first, last = (RECIPES[name]("paper") for name in ("reference_cost_initial", "reference_cost_trained"))
    assert (first.epochs, first.statistics_epochs, first.theta) == (0, 50, None)
    assert (last.epochs, last.statistics_epochs, last.theta.idle) == (150, 50, "moving")


PUBLISHED = {
    # relaxation, level, α's data, held-out share, batch size, epochs, epochs of statistics, cells
    "reference_darts_bilevel": (Darts(), "bi", "held_out", 0.5, 96, 50, 0, 8),
    "reference_darts_curves": (Darts(), "single", "same", 0.5, 64, 50, 0, 1),
    "corrected_darts_single": (Darts(), "single", "same", 0.5, 96, 50, 0, 8),
    "corrected_darts_single_held_out": (Darts(), "single", "held_out", 0.5, 96, 50, 0, 8),
    "corrected_darts_bilevel_same": (Darts(), "bi", "same", 0.5, 96, 50, 0, 8),
    "reference_dsnas": (Dsnas("reference", 5.0), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_dsnas": (Dsnas("corrected", None), "single", "same", 0.0, 96, 150, 0, 8),
    "reference_snas": (Snas(1.0, None), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_proxylessnas": (Proxyless(), "single", "same", 0.0, 96, 150, 0, 8),
    "reference_cost_initial": (Uniform(), "single", "same", 0.0, 96, 0, 50, 1),
    "reference_cost_trained": (Uniform(), "single", "same", 0.0, 96, 150, 50, 1),
    "corrected_cost_trained": (Uniform(), "single", "same", 0.0, 96, 150, 50, 1),
    "corrected_cost_shuffled": (Uniform(), "single", "same", 0.0, 96, 150, 50, 1),
    "corrected_cost_plain": (Uniform(), "single", "same", 0.0, 96, 150, 50, 1),
    "reference_dsnas_deep": (Dsnas("reference", 5.0), "single", "same", 0.0, 96, 150, 0, 8),
    "reference_snas_deep": (Snas(1.0, None), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_proxylessnas_deep": (Proxyless(), "single", "same", 0.0, 96, 150, 0, 8),
    "reference_darts_bilevel_deep": (Darts(), "bi", "held_out", 0.5, 96, 50, 0, 8),
    "corrected_darts_single_deep": (Darts(), "single", "same", 0.5, 96, 50, 0, 8),
    "corrected_dsnas_no_decay": (Dsnas(), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_dsnas_baseline": (Dsnas(baseline=0.9), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_dsnas_reference_gradient": (Dsnas("reference"), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_random_reward": (RandomReward(), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_bilevel_decay": (Darts(), "bi", "held_out", 0.5, 96, 50, 0, 8),
    "corrected_alone_wide": (Uniform(), "single", "same", 0.0, 96, 150, 0, 8),
    "corrected_alone_deep": (Uniform(), "single", "same", 0.0, 96, 150, 0, 8),
    "reference_stack_initial": (Uniform(), "single", "same", 0.0, 96, 0, 50, 8),
    "reference_stack_trained": (Uniform(), "single", "same", 0.0, 96, 150, 50, 8),
    "reference_deep_stack_initial": (Uniform(), "single", "same", 0.0, 96, 0, 50, 8),
    "reference_deep_stack_trained": (Uniform(), "single", "same", 0.0, 96, 150, 50, 8),
}
PUBLISHED |= {name: (own.relaxation, "single", "same", 0.0, 96, 150, 50, 1) for name, own in ABLATIONS.items()}
PUBLISHED |= {
    f"reference_{name}_{when}": (Uniform(), "single", "same", 0.0, 96, epochs, 50, 1)
    for name in VARIANTS
    for when, epochs in (("initial", 0), ("trained", 150))
}
PUBLISHED |= {
    crossed_name(*own): (CROSSED[own[0]], *own[1:], 0.5, 96, 50, 0, 8)
    for own in itertools.product(CROSSED, ("single", "bi"), CROSSED_DATA)
}
VARIED = PHASE | SIZES | UNIVERSAL
OF_SEARCH = [name for name, recipe in RECIPES.items() if isinstance(recipe("tiny"), SearchConfig)]


def test_every_recipe_of_a_search_has_its_published_setting_or_varies_one():
    assert {*PUBLISHED, *VARIED, *CONTROLS.values()} == set(OF_SEARCH)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_setting(name):
    c = RECIPES[name]("paper")
    data = (c.alpha_data, c.data.held_out, c.batch_size)
    assert (c.relaxation, c.level, *data, c.epochs, c.statistics_epochs, c.network.cells) == PUBLISHED[name]


@pytest.mark.parametrize("name", ["reference_dsnas", "corrected_dsnas", "reference_snas", "corrected_proxylessnas"])
def test_single_level_searches_share_all_but_the_relaxation_and_idle_weights(name):
    """Else their figures could not be compared."""
    config, other = RECIPES[name]("paper"), RECIPES["reference_snas"]("paper")
    assert config.theta == ThetaConfig(idle="moving" if name == "reference_dsnas" else "frozen")
    assert dataclasses.replace(config, relaxation=other.relaxation, theta=other.theta) == other
    assert config.alpha == AlphaConfig(3e-4, (0.5, 0.999), 1e-3, 10.0, 1.0, 0.01)


@pytest.mark.parametrize("scale", SCALES)
def test_cost_statistics_hold_alpha_fixed_on_one_minimal_cell(scale):
    names = ("reference_cost_initial", "reference_cost_trained", "corrected_cost_trained")
    initial, moving, frozen = (RECIPES[name](scale) for name in names)
    for config in (initial, moving, frozen):
        assert config.alpha is None and config.relaxation == Uniform() and config.statistics_epochs > 0
        assert (config.network.cells, config.network.cell) == (1, minimal())
    assert (initial.theta, initial.epochs) == (None, 0) and moving.epochs == frozen.epochs > 0
    assert (moving.theta, frozen.theta) == (ThetaConfig(idle="moving"), ThetaConfig(idle="frozen"))


@pytest.mark.parametrize("scale", ["tiny", "small"])
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in ("corrected_cost_shuffled",)])
def test_a_smaller_scale_changes_size_and_pace_only(name, scale):
    own, paper = RECIPES[name](scale), RECIPES[name]("paper")
    for field in ("relaxation", "level", "alpha_data", "second_order", "theta"):
        assert getattr(own, field) == getattr(paper, field)
    assert own.data.held_out == paper.data.held_out
    assert (own.alpha is None) == (paper.alpha is None)
    if own.alpha:
        assert dataclasses.replace(own.alpha, learning_rate=paper.alpha.learning_rate) == paper.alpha
    sizes = {field: getattr(paper.network, field) for field in ("cell", "cells", "channels")}
    assert dataclasses.replace(own.network, **sizes) == paper.network


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_settings_of_section_5_3_differ_in_their_cell_at_every_scale(name):
    """Fig 27 varies what the simplified cell's edges may choose, Fig 28 that of the modified cell; nothing else."""
    for scale in SCALES:
        config, base = RECIPES[name](scale), RECIPES["reference_cost_trained"](scale)
        assert config.network.cell == ABLATIONS[name].cell
        network = dataclasses.replace(config.network, cell=minimal())
        same = dataclasses.replace(config, network=network, relaxation=Uniform(), theta=base.theta)
        assert same == base
    full = {"(1,2)": 8, "(0,1)": 8, "(0,2)": 8}
    changed = {
        "27b": {"(1,2)": 4}, "27c": {"(1,2)": 5}, "27d": {"(0,1)": 5}, "27e": {"(0,1)": 4},
        "27f": {"(0,1)": 1, "(0,2)": 1}, "28b": {"(0,1)": 7}, "28c": {"(0,1)": 1}, "28d": {"(0,1)": 1, "(1,2)": 7},
    }  # fmt: skip
    sizes = {f"({edge.source},{edge.target})": len(edge.operations) for edge in ABLATIONS[name].cell.edges}
    figure = ABLATIONS[name].figure
    if figure:
        assert sizes == full | changed.get(figure, {})
        assert ABLATIONS[name].has_output_edge is figure.startswith("27")


@pytest.mark.parametrize("name", VARIED)
def test_a_variation_differs_from_its_base_in_what_it_says(name):
    variation = VARIED[name]
    base = RECIPES["reference_darts_bilevel" if variation.bilevel else "corrected_dsnas"]("small")
    config = RECIPES[name]("small")
    assert config.alpha.learning_rate == pytest.approx(base.alpha.learning_rate * variation.alpha)
    assert config.theta.learning_rate == pytest.approx(base.theta.learning_rate * variation.theta)
    assert config.theta.final_learning_rate == pytest.approx(base.theta.final_learning_rate * variation.theta)
    assert config.network.cells == (variation.cells or base.network.cells)
    assert config.network.channels == (variation.channels or base.network.channels)
    back = dataclasses.replace(
        config,
        alpha=base.alpha,
        theta=base.theta,
        network=base.network,
        relaxation=base.relaxation,
        epochs=base.epochs,
    )
    assert back == base and (variation.relaxation or base.relaxation) == config.relaxation


def test_sizes_are_points_of_the_phase_diagram_in_other_networks():
    assert len(SIZES) == 8 and {own.cells for own in SIZES.values()} == {1, 2, 4}
    for name in SIZES:
        config, point = RECIPES[name]("small"), RECIPES[name.rsplit("_", 1)[0]]("small")
        assert dataclasses.replace(config, network=point.network) == point and config.network != point.network


@pytest.mark.parametrize("name", CONTROLS)
def test_the_control_of_a_bilevel_setting_differs_in_level_and_images_alone(name):
    config, control = RECIPES[name]("small"), RECIPES[CONTROLS[name]]("small")
    assert (control.level, control.alpha_data, control.relaxation) == ("single", "same", Darts())
    assert dataclasses.replace(control, level="bi", alpha_data="held_out") == config


def test_the_scripts_gradient_alone_differs_from_dsnas_in_nothing_else():
    alone, own = RECIPES["corrected_dsnas_reference_gradient"]("small"), RECIPES["corrected_dsnas"]("small")
    assert dataclasses.replace(alone, relaxation=own.relaxation) == own
    assert dataclasses.replace(alone.relaxation, gradient="corrected") == own.relaxation


def test_alpha_can_travel_as_far_at_small_as_in_the_paper():
    """Its learning rate times its steps, with one step a batch."""

    def travel(config, images):
        return config.epochs * -(-images // config.batch_size) * config.alpha.learning_rate

    small, paper = (RECIPES["corrected_dsnas"](scale) for scale in ("small", "paper"))
    assert travel(small, small.data.images) == pytest.approx(travel(paper, 50_000), rel=0.05)


def test_cells_trained_alone_have_nothing_to_choose_and_cost_the_same():
    wide, deep = (RECIPES[f"corrected_alone_{name}"]("small").network.cell for name in ("wide", "deep"))
    for cell in (wide, deep):
        assert cell.architectures() == 1
        assert sorted(edge.operations[0] for edge in cell.edges) == ["none"] * 2 + ["sep_conv_3x3"] * 3
    sources = [{edge.source for edge in cell.edges if edge.operations != ("none",)} for cell in (wide, deep)]
    assert sources == [{0, 1}, {0, 1, 2}]


def test_crossed_experiments_differ_in_nothing_but_the_three_switches():
    switches = list(itertools.product(CROSSED, ("single", "bi"), CROSSED_DATA))
    configs = [RECIPES[crossed_name(*own)]("small") for own in switches]
    for (relaxation, level, data), config in zip(switches, configs, strict=True):
        assert (config.relaxation, config.level, config.alpha_data) == (CROSSED[relaxation], level, data)
    same = {dataclasses.replace(own, relaxation=Darts(), level="bi", alpha_data="same") for own in configs}
    assert len(same) == 1 and len({crossed_name(*own) for own in switches}) == 24
    assert crossed_name("darts", "bi", "held_out") == "reference_darts_bilevel"


def test_an_unknown_scale_is_named():
    with pytest.raises(ValueError, match="scale 'huge' is unknown; allowed are tiny, small, paper"):
        RECIPES["reference_dsnas"]("huge")


@pytest.mark.parametrize("name", ["corrected_cost_shuffled", "reference_darts_bilevel"])
def test_digits_in_place_of_cifar_keep_the_recipe_s_own_labels(name):
    """What stands in for CIFAR-10 is what the recipe takes at scale tiny, with the noise that the recipe is about."""
    config = configure(name, "small", embedded=True)
    assert config.data == RECIPES[name]("tiny").data and config.epochs == RECIPES[name]("small").epochs
    assert config.data.label_noise == (0.9 if "shuffled" in name else 0.4)
