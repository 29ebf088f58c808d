"""Recipes: the published values at the paper's scale, and what the smaller scales may change."""

import dataclasses

import pytest

from nas_core.lab.recipes import RECIPES, SCALES
from nas_core.relaxation import Dsnas
from nas_core.config import AlphaConfig, SearchConfig, ThetaConfig
from nas_core.space import darts, minimal


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_configuration_and_a_first_line(name, scale):
    config = RECIPES[name](scale)
    assert isinstance(config, SearchConfig)
    assert name.startswith(("reference_", "corrected_"))
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


@pytest.mark.parametrize("scale", ["tiny", "small"])
@pytest.mark.parametrize("name", RECIPES)
def test_a_smaller_scale_changes_size_and_pace_only(name, scale):
    own, paper = RECIPES[name](scale), RECIPES[name]("paper")
    for field in ("relaxation", "level", "alpha_data", "second_order", "theta"):
        assert getattr(own, field) == getattr(paper, field)
    assert own.data.held_out == paper.data.held_out
    assert (own.alpha is None) == (paper.alpha is None)
    if own.alpha:
        assert dataclasses.replace(own.alpha, learning_rate=paper.alpha.learning_rate) == paper.alpha
    same = dataclasses.replace(own.network, cell=paper.network.cell, cells=paper.network.cells)
    assert same == paper.network


def test_the_four_crossed_experiments_differ_in_nothing_but_the_two_switches():
    crossed = [
        RECIPES[name]("small")
        for name in (
            "reference_darts_bilevel",
            "corrected_darts_single_held_out",
            "corrected_darts_bilevel_same",
            "corrected_darts_single",
        )
    ]
    assert [(c.level, c.alpha_data) for c in crossed] == [("bi", "held_out"), ("single", "held_out"), ("bi", "same"), ("single", "same")]
    assert len({dataclasses.replace(c, level="bi", alpha_data="train") for c in crossed}) == 1


def test_an_unknown_scale_is_named():
    with pytest.raises(ValueError, match="scale 'huge' is unknown; allowed are tiny, small, paper"):
        RECIPES["reference_dsnas"]("huge")
