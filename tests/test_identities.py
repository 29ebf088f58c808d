"""Section 4 and Appendix B as pages compute them: each identity holds, and fails when it is broken on purpose."""

import math
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch

from nas_core import theory
from nas_core.cost import exact_cost
from nas_core.pages import enumeration, identities, style, theory_figures
from nas_core.pages.claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, box
from nas_core.relaxation import Dsnas, Proxyless, Sample
from nas_core.space import NONE, OPERATIONS, simplified

DRAWN = ["sep_conv_3x3", "max_pool_3x3", "sep_conv_3x3"]
POOLED = simplified().only(("none", "skip_connect", "max_pool_3x3"))


@pytest.fixture(scope="module")
def case():
    return enumeration.small(0, steps=30, cell=POOLED)


@pytest.fixture(scope="module")
def table(case):
    return enumeration.landscape(case)


@pytest.fixture(scope="module")
def prices(case, table):
    return enumeration.prices(case, table)


# Enumeration


def test_landscape_has_the_expectations_of_exact_cost(case, table):
    exact = exact_cost(case.network, case.images, case.labels, case.log_alpha)
    weight = table.probability(case.log_alpha)
    assert float(weight.sum()) == pytest.approx(1, abs=1e-12)
    assert float((weight * table.loss).sum()) == pytest.approx(exact.loss, abs=1e-12)
    kept = (weight[:, None, None] * table.z * table.cost).sum(0)
    conditional = kept / (weight[:, None, None] * table.z).sum(0).clamp(min=1e-300)
    assert torch.allclose(conditional, exact.conditional[0], atol=1e-12)
    assert table.chosen.tolist()[0] == [NONE] * 3 and len(table.z) == 27


def test_training_lowers_the_loss_and_epsilon_changes_nothing_but_epsilon():
    before, after = (enumeration.small(1, steps=steps, cell=POOLED) for steps in (0, 30))
    mean = [float(enumeration.landscape(own).loss.mean()) for own in (before, after)]
    assert mean[1] < mean[0] - 0.1
    other = enumeration.with_epsilon(after, 1e-3)
    assert other.network.config.normalization.eps == 1e-3 and after.network.config.normalization.eps == 1e-5
    assert all(torch.equal(one, two) for one, two in zip(after.network.parameters(), other.network.parameters()))
    assert torch.equal(after.log_alpha, other.log_alpha)


def test_cost_is_worth_plus_divergence_where_an_operation_acts_directly(prices):
    own = identities.price_residual(prices)
    assert own.held and own.cases == int(prices.directly.sum()) and own.scale > 0.1
    assert (prices.cost - prices.difference)[prices.directly].min() > -1e-12


@pytest.mark.parametrize("wrong", ["half the cost", "no divergence", "the other way round", "paths behind it too"])
def test_a_wrong_price_does_not_hold(case, table, prices, wrong):
    if wrong == "half the cost":
        broken = replace(prices, cost=prices.cost / 2)
    elif wrong == "no divergence":
        broken = replace(prices, divergence=0 * prices.divergence)
    elif wrong == "the other way round":
        swapped = enumeration.prices(case, replace(table, logits=-table.logits))
        broken = replace(prices, divergence=swapped.divergence)
    else:
        broken = replace(prices, directly=np.ones_like(prices.directly))
    assert not identities.price_residual(broken).held


def test_prices_need_none_on_every_edge(table):
    bare = enumeration.small(0, cell=POOLED.without("none", (0, 1)))
    with pytest.raises(ValueError, match="add 'none' to every edge"):
        enumeration.prices(bare, table)


def test_a_sweep_has_the_slopes_of_its_loss(case):
    gate = [0, 1e-6, 0.5, 1 - 1e-6, 1]
    own = enumeration.sweep(case, ["skip_connect", "max_pool_3x3", "none"], 0, gate)
    assert own.slope_at_0 == pytest.approx((own.loss[1] - own.loss[0]) / 1e-6, rel=1e-4)
    assert own.slope_at_1 == pytest.approx((own.loss[4] - own.loss[3]) / 1e-6, rel=1e-4)


def test_a_normalised_path_behind_a_node_is_a_cliff_as_steep_as_epsilon_is_small(case):
    steep = []
    for epsilon in (1e-5, 1e-7):
        own = enumeration.with_epsilon(case, epsilon)
        steep.append(enumeration.sweep(own, ["skip_connect", "none", "max_pool_3x3"], 0, [0, 0.05, 1]))
    assert abs(steep[1].slope_at_0 / steep[0].slope_at_0) == pytest.approx(10, rel=0.1)
    assert abs(steep[1].loss[1] - steep[1].loss[0]) > abs(steep[1].loss[2] - steep[1].loss[1])


# Gradients


def test_only_the_gradient_of_a_function_has_a_symmetric_jacobian(case, table):
    assert enumeration.asymmetry(table, case.log_alpha, None) < 1e-12
    for relaxation in (Dsnas(), Dsnas("reference"), Proxyless()):
        assert enumeration.asymmetry(table, case.log_alpha, relaxation) > 0.01
    # Were the cost affine in Z, that is constant, DSNAS would be the gradient of a function.
    constant = replace(table, cost=table.cost[:1].expand_as(table.cost) + torch.arange(8.0).double())
    assert enumeration.asymmetry(constant, case.log_alpha, Dsnas()) < 1e-12


def test_the_policy_gradient_of_snas_is_off_by_the_hessian_term():
    case = enumeration.small(0, steps=30)
    own = enumeration.score_check(case, DRAWN, 1, "skip_connect", 1.0, nodes=32)
    assert own.gradient == pytest.approx(own.score_of_loss, abs=1e-9)
    assert own.score_of_cost - own.gradient == pytest.approx(own.hessian, abs=1e-9)
    assert abs(own.hessian) > 0.05 * abs(own.gradient), "the printed equality is not nearly one"


def test_its_limit_is_dsnas_and_not_the_exact_gradient():
    gap = 0.7
    case = enumeration.small(0, steps=30)
    limit = enumeration.score_limit(case, DRAWN, 1, "skip_connect", gap=gap)
    far, near = (enumeration.score_check(case, DRAWN, 1, "skip_connect", heat, gap=gap) for heat in (1.0, 0.2))
    for name in ("gradient", "score_of_cost"):
        ends = [abs(getattr(own, name) - getattr(limit, name)) for own in (far, near)]
        assert ends[1] < 0.5 * ends[0]
    cell = case.cell.fix(0, DRAWN[0]).fix(2, DRAWN[2]).only(("skip_connect", DRAWN[1]), 1)
    log_alpha = torch.full_like(case.log_alpha, -math.inf)
    for edge, name in enumerate(DRAWN):
        log_alpha[0, edge, OPERATIONS.index(name)] = gap if edge == 1 else 0.0
    log_alpha[0, 1, OPERATIONS.index("skip_connect")] = 0.0
    network = enumeration.small(0, cell=cell).network
    network.load_state_dict(case.network.state_dict(), strict=False)
    exact = exact_cost(network, case.images, case.labels, log_alpha)
    mean = float(exact.score_gradient[0, 1, OPERATIONS.index(DRAWN[1])])
    kept = {name for name, _ in network.named_parameters()}
    assert all(torch.equal(network.state_dict()[name], case.network.state_dict()[name]) for name in kept)
    assert limit.score_of_cost == pytest.approx(mean, abs=1e-12)
    assert limit.hessian == pytest.approx(limit.score_of_cost - limit.gradient, abs=1e-15)


def test_the_mean_of_dsnas_is_eq_4_and_a_wrong_mean_is_not(case, monkeypatch):
    assert identities.eq4_residual(case).held
    exact = exact_cost(case.network, case.images, case.labels, case.log_alpha)
    shifted = replace(exact, score_gradient=exact.score_gradient * (1 + 1e-6))
    monkeypatch.setattr(identities, "exact_cost", lambda *batch: shifted)
    assert not identities.eq4_residual(case).held


def test_errors_are_against_the_gradient_of_the_expected_loss(case, table):
    free = case.log_alpha.clone().requires_grad_()
    weight = table.probability(free)
    (exact,) = torch.autograd.grad((weight * table.loss).sum(), free)
    wide = case.log_alpha.expand(len(table.z), -1, -1)
    each = Dsnas().alpha_gradient(wide, Sample(table.z, table.z > 0), table.cost)
    mean = (weight.detach()[:, None, None] * each).sum(0)
    expected = float((mean - exact[0]).norm() / exact.norm())
    assert identities.errors(case)["DSNAS"].relative == pytest.approx(expected, rel=1e-9)
    assert expected > 0.01


def test_a_cost_that_all_share_moves_only_the_published_scripts():
    p = [0.02, 0.08, 0.3, 0.6]
    own = enumeration.drift(p, 3)
    assert np.abs(own["corrected"]).max() < 1e-15
    assert own["reference"][3] > 0.01 and own["reference"][:3].max() < 0
    assert np.abs(enumeration.drift(p, 1)["reference"]).max() < 1e-15, "one edge has nothing to be compared with"
    assert np.abs(enumeration.drift([0.25] * 4, 3)["reference"]).max() < 1e-15


def test_empty_nodes_make_the_error_of_proxylessnas_grow_as_epsilon_shrinks(case):
    relative = [
        identities.errors(enumeration.with_epsilon(case, epsilon))["ProxylessNAS against DARTS"].relative
        for epsilon in (1e-6, 1e-8)
    ]
    assert relative[1] / relative[0] == pytest.approx(10, rel=0.15)
    filled = enumeration.small(0, steps=30, cell=POOLED.without("none", (0, 1)))
    assert identities.errors(filled)["ProxylessNAS against DARTS"].relative < 0.5


@pytest.mark.parametrize("title", identities.FRAMEWORKS)
def test_every_framework_has_its_gradient(title):
    own = identities.gradient_residuals([3, 4])[title]
    assert own.held and own.cases == 2 and own.value < 1e-10


# Verdicts and tables


GOOD, BAD = theory.Residual(1e-16, 1e-12, 0.1, 5), theory.Residual(1e-3, 1e-12, 0.1, 5)


def given_errors(relative, number=5):
    return [
        {"ProxylessNAS against Eq 4": theory.GradientError(relative * (1 + 0.01 * seed), 0.5)} for seed in range(number)
    ]


def judged(residuals=GOOD, expectation=GOOD, errors=None):
    titles = dict.fromkeys(identities.FRAMEWORKS, residuals)
    found = identities.verdicts(titles, expectation, given_errors(0.01) if errors is None else errors)
    return {own.claim_id: (own.direction, own.magnitude) for own in found}


def test_verdicts_follow_the_residuals():
    assert set(judged().values()) == {(REPRODUCED, REPRODUCED)}
    assert set(judged(residuals=BAD).values()) == {(NOT_REPRODUCED, NOT_REPRODUCED)}
    assert judged(expectation=BAD)["U-DSNAS"] == (REPRODUCED, NOT_REPRODUCED)
    assert judged(expectation=BAD)["U-SNAS"] == (REPRODUCED, REPRODUCED)


@pytest.mark.parametrize(
    "relative, number, outcome",
    [(0.05, 5, REPRODUCED), (0.3, 5, PARTLY), (5.0, 5, NOT_REPRODUCED), (0.05, 3, NOT_TESTED)],
)
def test_the_magnitude_of_proxylessnas_is_that_of_its_approximation(relative, number, outcome):
    assert judged(errors=given_errors(relative, number))["U-Proxyless"] == (REPRODUCED, outcome)


def test_verdicts_stand_in_a_box():
    found = identities.verdicts(dict.fromkeys(identities.FRAMEWORKS, GOOD), GOOD, given_errors(3.0))
    words = [box(own) for own in found]
    assert "largest residual in 5 random networks is 1.0e−16" in words[0] and "n\xa0=\xa0" not in words[0]
    assert "3.06 times the norm of Eq 4 [" in words[3] and "n\xa0=\xa05" in words[3]


def test_a_residual_above_its_bound_stands_out():
    text = identities.residual_table({"good": GOOD, "bad": BAD})
    assert text.count("| yes |") == 1 and text.count("| **no** |") == 1


def test_price_table_counts_wrong_signs():
    own = enumeration.Prices(
        np.zeros(5, int), np.array([1.0, -1, 1, -1, 2]), np.array([-1.0, -1, 1, 1, -3]), np.zeros(5),
        np.array([True, True, True, True, False]),
    )  # fmt: skip
    direct, behind = (line.split(" | ") for line in identities.price_table({"untrained": [own]}).splitlines()[2:])
    assert direct[2:7] == ["4", "+0.0000", "+0.0000", "50\xa0% of 2", "50\xa0% of 2 |"]
    assert behind[2:7] == ["1", "+2.0000", "−3.0000", "100\xa0% of 1", "– |"]


def test_pull_table_falls_with_the_square_of_the_probability():
    rows = [line.strip("| ").split(" | ") for line in identities.pull_table((0.3, 0.003), 0.3, 5).splitlines()[2:]]
    assert float(rows[0][1]) == pytest.approx(1) and rows[0][2] == rows[0][3]
    assert float(rows[1][3]) / float(rows[1][2]) == pytest.approx(float(rows[1][1]), rel=0.05)
    assert float(rows[1][1]) < 0.02


def test_mean_table_approaches_the_enumeration(case):
    few, many = (line.strip("| ").split(" | ") for line in identities.mean_table(case, (100, 4000), 0).splitlines()[2:])
    assert many[0] == "4 000" and float(many[1]) < 0.5 * float(few[1]) and float(many[2]) < 5


def test_tables_of_one_seed_have_no_interval(case, table):
    errors = {"trained": [identities.errors(case)]}
    text = identities.error_table(errors, ["DSNAS"]) + identities.field_table({"trained": [(case, table)]})
    assert "nan" not in text and "[" not in text.replace("∇E[L]", "")
    assert "| ∇E[L] | 1 | 0 |" in text


# Figures


def make(name, case, table, prices):
    if name == "prices":
        return theory_figures.price_scatter({"untrained": prices, "trained": prices}, case.cell)
    if name == "gate":
        gate = np.linspace(0, 1, 5)
        return theory_figures.gate_sweeps({"one": enumeration.sweep(case, ["skip_connect"] * 3, 0, gate)})
    p = [0.01, 0.04, 0.05, 0.1, 0.1, 0.1, 0.2, 0.4]
    drifts = {"corrected": np.zeros(8), "reference": np.linspace(-1, 1, 8)}
    return theory_figures.scripts_factor(p, drifts, 5)


@pytest.mark.parametrize("name", ["prices", "gate", "scripts"])
def test_figures_are_described_readable_and_equal_in_bytes(name, case, table, prices):
    figure = make(name, case, table, prices)
    assert style.svg(figure) == style.svg(make(name, case, table, prices))
    assert len(figure.get_label()) > 40 and figure.get_figwidth() == style.WIDTH
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 9


def test_price_scatter_shows_every_point_and_says_none_is_below(case, table, prices):
    figure = make("prices", case, table, prices)
    for axes in figure.axes:
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert sum(len(line.get_xdata()) for line in points) == len(prices.cost)
    assert f"of {prices.directly.sum()} filled points 0 lie below" in figure.get_label()
    broken = replace(prices, cost=prices.cost - 1)
    assert "points 0 lie" not in theory_figures.price_scatter({"x": broken}, case.cell).get_label()


def test_the_factor_is_one_where_all_are_equally_likely(case, table, prices):
    left, right = make("scripts", case, table, prices).axes
    for line, others in zip(left.lines, (0.1, 0.3, 0.9), strict=False):
        factor = np.interp(others, line.get_xdata(), line.get_ydata())
        assert factor == pytest.approx(1, rel=0.01)
    assert [bar.get_height() for bar in right.patches] == pytest.approx(np.linspace(-1, 1, 8))
