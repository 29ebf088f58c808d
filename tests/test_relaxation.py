"""The relaxations alone: what they draw, which operations they ask for, and their α gradient against autograd."""

import pytest
import torch

from nas_core.relaxation import (
    Darts,
    Dsnas,
    EqualTraining,
    Proxyless,
    RandomReward,
    Sample,
    Snas,
    Uniform,
    masked,
    probability,
)
from nas_core.space import NONE, SKIP, minimal

EVERY = {
    "darts": Darts(),
    "snas": Snas(0.5),
    "dsnas": Dsnas(),
    "dsnas-reference": Dsnas("reference"),
    "proxylessnas": Proxyless(),
    "uniform": Uniform(),
}
CELL = minimal().without("none", 4).fix(0, "skip_connect")


def numbers(seed, scale=1.0):
    """``[G=2, E=5, K=8]``."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, 5, 8, generator=generator, dtype=torch.float64)


def draw(relaxation, log_alpha, seed=0):
    return relaxation.sample(log_alpha, torch.Generator().manual_seed(seed))


def hot(choices):
    """The one-hot sample of these operations, ``[G][E]``."""
    z = torch.nn.functional.one_hot(torch.tensor(choices), 8).double()
    return Sample(z, z > 0)


CHOICES = [[1, 4, 2, 7, 5], [6, 3, 3, 1, 2]]


def test_masking_and_probability():
    alpha = masked(numbers(0), CELL)
    p = probability(alpha)
    assert torch.equal(p > 0, torch.tensor(CELL.mask()).expand(2, 5, 8))
    assert torch.allclose(p.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert p[1, 0, SKIP] == 1 and p[0, 4, NONE] == 0
    weights = alpha[0, 2].exp()
    assert torch.allclose(p[0, 2], weights / weights.sum())


@pytest.mark.parametrize("name", EVERY)
def test_what_is_drawn_and_what_must_be_evaluated(name):
    """Soft relaxations and ProxylessNAS evaluate every candidate, the others only what they drew."""
    alpha = masked(numbers(1), CELL)
    sample = draw(EVERY[name], alpha)
    assert torch.allclose(sample.z.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    soft = name in ("darts", "snas")
    assert bool(((sample.z == 0) | (sample.z == 1)).all()) is not soft
    candidates = torch.isfinite(alpha)
    assert torch.equal(sample.active, candidates if soft or name == "proxylessnas" else sample.z > 0)
    assert torch.equal(sample.counterfactual(alpha).active, candidates)
    assert torch.equal(sample.counterfactual(alpha).z, sample.z)


@pytest.mark.parametrize("name", ["dsnas", "proxylessnas", "uniform"])
def test_one_hot_draws_have_the_stated_frequencies(name):
    """Over 2000 draws every share is within 4.5 standard errors of p_α; of equal shares where α is ignored."""
    relaxation, alpha = EVERY[name], masked(numbers(2), CELL)
    p = probability(masked(torch.zeros_like(alpha), CELL) if name == "uniform" else alpha)
    generator = torch.Generator().manual_seed(0)
    share = torch.stack([relaxation.sample(alpha, generator).z for _ in range(2000)]).mean(0)
    error = (p * (1 - p) / 2000).sqrt()
    assert torch.all((share - p).abs() <= 4.5 * error)


def test_a_snas_draw_is_the_softmax_of_noisy_alpha_over_its_temperature():
    """The same noise at two temperatures: the logarithms of Z differ by the factor λ, up to a constant of the edge."""
    alpha = numbers(3)
    warm, cold = (draw(Snas(value), alpha).z.log() for value in (1.0, 0.25))
    centred = [value - value.mean(-1, keepdim=True) for value in (warm, 0.25 * cold)]
    assert torch.allclose(*centred)
    noise = centred[0] - (alpha - alpha.mean(-1, keepdim=True))
    assert float(noise.std()) > 0.5, "without noise this were DARTS"


def test_snas_is_annealed_geometrically_and_nothing_else_is_annealed():
    annealed = Snas(2.0, 0.5)
    assert [annealed.at(share).temperature for share in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.0, 0.5])
    for relaxation in (*EVERY.values(), Snas(0.3)):
        assert relaxation.at(0.0) == relaxation.at(0.7) == relaxation


def test_soft_gradients_equal_autograd():
    """DARTS and SNAS: ∂/∂(log α) of Σ Z·C with the same noise. ProxylessNAS: of Σ p·C, whatever was drawn."""
    alpha, cost = numbers(4), numbers(5)
    for relaxation in (Darts(), Snas(0.4), Proxyless()):
        free = alpha.clone().requires_grad_()
        weights = probability(free) if isinstance(relaxation, Proxyless) else draw(relaxation, free).z
        (expected,) = torch.autograd.grad((weights * cost).sum(), free)
        got = relaxation.alpha_gradient(alpha, draw(relaxation, alpha), cost)
        assert torch.allclose(got, expected, rtol=0, atol=1e-12), relaxation.name
    assert torch.all(Uniform().alpha_gradient(alpha, hot(CHOICES), cost) == 0)


def surrogate(log_alpha, choices, rewards, gradient):
    """What DSNAS differentiates in one group, edge by edge: the reward times log p of the draw, or times log Σ p."""
    p = [log_alpha[e].softmax(0)[k] for e, k in enumerate(choices)]
    if gradient == "corrected":
        return sum(reward * value.log() for reward, value in zip(rewards, p))
    total = sum(p)
    # Each edge's own part of log Σ p: the other edges' p are constants to it.
    return sum(reward * (total.detach() - value.detach() + value).log() for reward, value in zip(rewards, p))


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("gradient", ["corrected", "reference"])
def test_dsnas_gradients_equal_autograd_with_every_reward_in_its_bounds(gradient, clamp):
    alpha, cost, sample = numbers(6), numbers(7), hot(CHOICES)
    rewards = [[float(cost[g, e, k]) for e, k in enumerate(row)] for g, row in enumerate(CHOICES)]
    flat = [abs(reward) for row in rewards for reward in row]
    assert min(flat) < 0.5 < max(flat), "some rewards must be bounded and some must not"
    if clamp:
        rewards = [[min(max(reward, -clamp), clamp) for reward in row] for row in rewards]
    free = alpha.clone().requires_grad_()
    value = sum(surrogate(free[g], CHOICES[g], rewards[g], gradient) for g in range(2))
    (expected,) = torch.autograd.grad(value, free)
    got = Dsnas(gradient, clamp).alpha_gradient(alpha, sample, cost)
    assert torch.allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_clamp_bounds_both_signs_of_the_reward(sign):
    alpha, sample = numbers(8), hot(CHOICES)
    huge, bounded = (Dsnas(clamp=5.0).alpha_gradient(alpha, sample, sign * value * sample.z) for value in (1e6, 5.0))
    assert torch.equal(huge, bounded)
    assert torch.allclose(huge, sign * 5.0 * (sample.z - probability(alpha)))


def test_uniform_draws_ignore_alpha():
    assert torch.equal(draw(Uniform(), numbers(9)).z, draw(Uniform(), numbers(10, scale=9.0)).z)


def test_equal_training_draws_none_elsewhere_only_and_ends_as_uniform():
    alpha = masked(numbers(11), minimal())
    relaxation, generator = EqualTraining((4,)), torch.Generator().manual_seed(0)
    share = torch.stack([relaxation.sample(alpha, generator).z for _ in range(2000)]).mean(0)
    assert torch.all(share[:, 4, NONE] == 0) and torch.all(share[:, 4, 1:] > 0.1)
    assert torch.all((share[:, :4] - 1 / 8).abs() < 0.04)
    assert relaxation.at(0.99) is relaxation and relaxation.at(1.0) == Uniform()
    assert torch.all(relaxation.alpha_gradient(alpha, draw(relaxation, alpha), numbers(12)) == 0)


def test_a_random_reward_keeps_its_size_and_loses_its_sign():
    """Over many costs each edge's gradient is that of DSNAS or its negative, about as often; the same cost, the same
    sign."""
    alpha, sample, control = numbers(13), hot(CHOICES), RandomReward()
    signs = []
    for seed in range(200):
        cost = numbers(100 + seed)
        own = control.alpha_gradient(alpha, sample, cost)
        ratio = own / Dsnas().alpha_gradient(alpha, sample, cost)
        assert torch.allclose(ratio.abs(), torch.ones_like(ratio))
        assert torch.equal(own, control.alpha_gradient(alpha, sample, cost))
        signs.append(ratio[..., 0])
    signs = torch.stack(signs)
    assert torch.all(signs.mean(0).abs() < 4.5 / 200**0.5)
    assert torch.all(torch.corrcoef(signs.flatten(1).T).fill_diagonal_(0).abs() < 4.5 / 200**0.5), "edges apart"


def test_a_baseline_out_of_range_is_refused():
    with pytest.raises(ValueError, match="baseline is 1.0; give a decay from 0"):
        Dsnas(baseline=1.0)
