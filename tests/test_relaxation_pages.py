"""The statements of chapter 2, measured at fixed seeds, and what its figures and tables show."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_core import space
from nas_core.cost import probe
from nas_core.lab.recipes import RECIPES
from nas_core.pages import drawing, relaxations, style
from nas_core.pages.relaxations import RELAXATIONS, draw, local_gradient, mean_and_error, softmax
from nas_core.relaxation import Sample, Snas
from tests import networks
from tests.test_recipes import PUBLISHED

LOG_ALPHA = [0.5, 0.0, 1.0, -0.5, 1.5, -1.0, 0.5, -2.0]
COST = [0.0, 0.3, -0.2, 0.1, -0.4, 0.2, 0.1, -0.1]
DRAWS = 40_000
K = len(space.OPERATIONS)
VECTORS = arrays(float, K, elements=st.floats(-4, 4))


def many(title: str, log_alpha=LOG_ALPHA) -> relaxations.Draws:
    return draw(RELAXATIONS[title], log_alpha, COST, 0, DRAWS)


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, its head first."""
    lines = [line for line in table.splitlines() if not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|")] for line in lines]


# Draws and gradients


def test_one_seed_gives_every_sampler_the_same_operation():
    hard = many("DSNAS").z
    assert (hard.sum(axis=1) == 1).all() and (hard.max(axis=1) == 1).all()
    assert np.array_equal(many("ProxylessNAS").z, hard)
    for title in ("SNAS, λ = 1", "SNAS, λ = 0.1"):
        assert np.array_equal(many(title).z.argmax(axis=1), hard.argmax(axis=1))
    assert not np.array_equal(many("uniform").z, hard)


@pytest.mark.parametrize("title", RELAXATIONS)
def test_what_is_evaluated(title):
    drawn = many(title)
    assert not drawn.evaluated[:, space.NONE].any(), "none needs no evaluation"
    if title in ("DSNAS", "uniform"):
        assert np.array_equal(drawn.evaluated[:, 1:], drawn.z[:, 1:] == 1)
    else:
        assert drawn.evaluated[:, 1:].all()


def test_draws_differ_but_for_darts():
    assert np.ptp(many("DARTS").z, axis=0).max() == 0
    assert all(np.ptp(many(title).z, axis=0).min() > 0 for title in RELAXATIONS if title != "DARTS")


@given(VECTORS, VECTORS)
def test_local_gradient_is_that_of_the_expected_cost(log_alpha, cost):
    parameter = torch.tensor(log_alpha, requires_grad=True)
    (parameter.softmax(-1) @ torch.tensor(cost)).backward()
    assert np.allclose(local_gradient(log_alpha, cost), parameter.grad.numpy(), rtol=1e-9, atol=1e-12)


@given(VECTORS, VECTORS)
def test_darts_and_proxylessnas_have_the_local_gradient_in_every_draw(log_alpha, cost):
    for title in ("DARTS", "ProxylessNAS"):
        gradient = draw(RELAXATIONS[title], log_alpha, cost, 3, 5).gradient
        assert np.allclose(gradient, local_gradient(log_alpha, cost), rtol=1e-9, atol=1e-12)


def test_dsnas_has_the_probability_and_the_local_gradient_as_its_means():
    drawn = many("DSNAS")
    for values, expected in ((drawn.z, softmax(LOG_ALPHA)), (drawn.gradient, local_gradient(LOG_ALPHA, COST))):
        mean, error = mean_and_error(values)
        assert (np.abs(mean - expected) < 4.5 * error).all()


def test_dsnas_learns_nothing_from_a_draw_of_none():
    drawn = many("DSNAS")
    none = drawn.z[:, space.NONE] == 1
    assert none.any() and not drawn.gradient[none].any() and drawn.gradient[~none].any(axis=1).all()


def test_the_mean_of_snas_is_flatter_than_the_probability_unless_all_are_equally_likely():
    p = softmax(LOG_ALPHA)
    mean, error = mean_and_error(many("SNAS, λ = 1").z)
    assert p[p.argmax()] - mean[p.argmax()] > 20 * error[p.argmax()]
    assert mean[p.argmin()] - p[p.argmin()] > 20 * error[p.argmin()]
    mean, error = mean_and_error(many("SNAS, λ = 1", [0.7] * K).z)
    assert (np.abs(mean - 1 / K) < 4.5 * error).all()


@settings(max_examples=30)
@given(VECTORS, st.integers(0, 2**31))
def test_snas_keeps_its_likeliest_operation_and_tends_to_one_hot(log_alpha, seed):
    hard = draw(RELAXATIONS["DSNAS"], log_alpha, COST, seed, 200).z
    apart = []
    for temperature in (1.0, 0.1, 1e-7):
        soft = draw(Snas(temperature), log_alpha, COST, seed, 200).z
        assert np.array_equal(soft.argmax(axis=1), hard.argmax(axis=1))
        apart.append(np.abs(soft - hard).max(axis=1).mean())
    assert apart[0] > apart[1] > apart[2]
    assert apart[2] < 1e-2, "at most one draw in 200 is so nearly tied"


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0] and error.tolist() == [1.0, 0.0]


def test_an_edge_without_input_has_no_cost():
    """The page reads a row of zeros this way: e4 of the minimal cell where e0 and e1 both drew none."""
    network = networks.network()
    z = torch.zeros(1, 5, K, dtype=torch.float64)
    z[0, :2, space.NONE], z[0, 2:, space.SKIP] = 1, 1
    cost = probe(network, *networks.batch(), Sample(z, torch.ones_like(z, dtype=torch.bool))).cost[0]
    assert not cost[4].any() and cost[:4, 1:].all() and not cost[:, space.NONE].any()


# Figures


def test_comparison_shows_every_draw():
    figure = relaxations.comparison(LOG_ALPHA, COST, seed=0)
    grid = np.array(figure.axes).reshape(len(RELAXATIONS), 4)
    for row, (title, relaxation) in zip(grid, RELAXATIONS.items(), strict=True):
        drawn = draw(relaxation, LOG_ALPHA, COST, 0, 3)
        for axes, z, evaluated in zip(row, drawn.z, drawn.evaluated, strict=False):
            assert np.allclose([bar.get_height() for bar in axes.patches], z)
            dots = axes.lines[-1].get_xdata()
            assert list(dots) == list(np.flatnonzero(evaluated)), title
        heights = np.array([bar.get_height() for bar in row[-1].patches]).reshape(3, K)
        assert np.allclose(heights, drawn.gradient)
        low, high = row[-1].get_ylim()
        assert low < heights.min() and heights.max() < high and low == -high
        (dashes,) = row[-1].collections
        assert np.allclose([path.vertices[0, 1] for path in dashes.get_paths()], local_gradient(LOG_ALPHA, COST))


def two_cells():
    return drawing.cells({"left": (space.simplified(), None), "right": (space.modified(), None)})


def two_wirings():
    p = np.full((5, K), 0.1)
    p[:, 0], p[3, 4] = 0.3, 0.5
    return drawing.cells({"left": (space.minimal(), p), "right": (space.minimal(), np.eye(K)[[1, 1, 1, 1, 2]])})


@pytest.mark.parametrize("make", [lambda: relaxations.comparison(LOG_ALPHA, COST, 1), two_cells, two_wirings])
def test_figures_are_described_readable_and_equal_in_bytes(make):
    figure = make()
    assert style.svg(figure) == style.svg(make())
    assert len(figure.get_label()) > 40
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 9 and figure.get_figwidth() == style.WIDTH


def test_cells_are_described_one_by_one_with_all_their_operations_in_the_legend():
    assert two_cells().get_label().index("left: The simplified cell") < two_cells().get_label().index(
        "right: The modif"
    )
    figure = two_wirings()
    assert "left: Likeliest wiring" in figure.get_label() and "dropped: e0, e1, e2, e4" in figure.get_label()
    (legend,) = figure.legends
    words = {text.get_text() for text in legend.get_texts()}
    assert {"sep_conv_3x3", "skip_connect", "max_pool_3x3", "dropped (none)"} <= words


# Tables


def test_edge_table_names_what_an_edge_lacks():
    head, *body = rows(relaxations.edge_table(space.minimal().only(["none", "skip_connect"], (1, 2))))
    assert head == ["edge", "(source, target)", "class", "candidates"]
    assert body[1] == ["e1", "(1, 2)", "input", "none, skip_connect"]
    assert body[4] == ["e4", "(2, 3)", "intermediate", "all 8"]


def test_gradient_table_measures_bias_evaluations_and_spread():
    table = {row[0]: row[1:] for row in rows(relaxations.gradient_table(LOG_ALPHA, COST, 0, DRAWS))[1:]}
    assert table["DARTS"] == table["ProxylessNAS"] == ["7.00", "0 (exact)", "0.00"]
    assert float(table["DSNAS"][0]) == pytest.approx(1 - softmax(LOG_ALPHA)[0], abs=0.01)
    bias, error = map(float, table["DSNAS"][1].split(" ± "))
    assert bias < 4.5 * error
    bias, error = map(float, table["SNAS, λ = 1"][1].split(" ± "))
    assert bias > 20 * error
    assert float(table["SNAS, λ = 0.1"][2]) > float(table["SNAS, λ = 1"][2]) > 0.1
    gradient = local_gradient(LOG_ALPHA, COST)
    spread = np.sqrt(((many("DSNAS").gradient - many("DSNAS").gradient.mean(axis=0)) ** 2).mean(axis=0).sum())
    assert float(table["DSNAS"][2]) == pytest.approx(spread / np.linalg.norm(gradient), abs=0.01)
    # Uniform sampling has no gradient at all: its bias is the whole of the largest component, whatever the sign.
    expected = f"{np.abs(gradient).max() / np.linalg.norm(gradient):.4f} (exact)"
    opposite = rows(relaxations.gradient_table(LOG_ALPHA, [-c for c in COST], 0, 10))
    assert table["uniform"][1] == opposite[-1][2] == expected


def test_expectation_table_gives_differences_with_errors():
    table = rows(relaxations.expectation_table(LOG_ALPHA, 0, DRAWS))[1:]
    assert [row[0] for row in table] == list(space.OPERATIONS)
    mean, error = mean_and_error(many("SNAS, λ = 1").z)
    k = int(np.argmax(LOG_ALPHA))
    p = softmax(LOG_ALPHA)[k]
    assert table[k][1] == f"{p:.4f}"
    assert table[k][3] == f"−{p - mean[k]:.4f} ± {error[k]:.4f}"


def test_limit_table_falls_to_zero_without_another_likeliest_operation():
    table = rows(relaxations.limit_table(LOG_ALPHA, 0, 2000, (1, 0.1, 1e-7)))[1:]
    assert [row[0] for row in table] == ["1", "0.1", "1e−07"]
    assert float(table[0][1]) > float(table[1][1]) > float(table[2][1])
    assert [row[3] for row in table] == ["0 of 2000"] * 3


def test_cost_table_marks_what_was_drawn_and_what_is_missing():
    cell = space.simplified().only(["none", "skip_connect"], 1)
    z, cost = torch.zeros(3, K), torch.zeros(3, K)
    z[0, 2], z[1, 0], z[2, 4] = 1, 1, 1
    cost[0, 1], cost[0, 2] = -0.0123, 0.04
    body = rows(relaxations.cost_table(cell, z, cost))[1:]
    assert body[0][:4] == ["e0", "0", "−12.30", "**+40.00**"]
    assert body[1] == ["e1", "**0**", "0", *"–" * 6]


def test_switches_list_every_recipe_that_trains_alpha_once():
    body = rows(relaxations.switches(RECIPES, "small"))[1:]
    listed = [name.strip("` ") for row in body for name in row[3].split(",")]
    assert sorted(listed) == sorted(name for name in PUBLISHED if RECIPES[name]("small").alpha is not None)
    assert len({tuple(row[:3]) for row in body}) == len(body)
    (row,) = (row for row in body if "`reference_darts_bilevel`" in row[3])
    assert row[:3] == ["darts", "bi", "held_out"]
