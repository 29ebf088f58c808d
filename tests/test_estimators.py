"""Estimators of the cost: the shared pass against a probe of every architecture, what is estimated, and when one may stop."""

import itertools
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nas_core import estimation, verification
from nas_core.conditioned import SharedBatch, every_architecture, layout, table, weights, wiring
from nas_core.cost import exact_cost, probe
from nas_core.data import DataConfig
from nas_core.estimators import (
    Conditioned,
    Counterfactual,
    Rows,
    Sampled,
    adaptive,
    best_split,
    decided,
    entries,
    exact_tables,
    known_small,
    measure,
    sign_known,
    two_way,
    variance_components,
)
from nas_core.operations import Normalization
from nas_core.relaxation import Sample, masked
from nas_core.space import NONE, OPERATIONS, darts, minimal, modified, simplified
from nas_core.supernet import NetworkConfig
from tests.networks import POOLS, batch, network

THREE = ("none", "skip_connect", "sep_conv_3x3")
MIXED = (
    minimal()
    .only(("none", "max_pool_3x3", "dil_conv_5x5"))
    .only(("none", "skip_connect", "sep_conv_5x5", "avg_pool_3x3"), 4)
)
CELLS = {
    "pools": minimal().only(POOLS),
    "pools between convolutions": MIXED,
    "convolutions": minimal().only(("sep_conv_3x3", "dil_conv_3x3", "avg_pool_3x3")),
    "unequal": minimal()
    .only(("none", "sep_conv_5x5"), 0)
    .only(("dil_conv_3x3", "skip_connect", "none"), 1)
    .only(THREE, 2)
    .fix(3, "none"),
    "one input": simplified(),
    "one output": modified(),
}
EPS = 1e-2
"""Large, so that what normalised paths leave over shows up."""


def sample_of(choice):
    z = F.one_hot(torch.tensor(choice), len(OPERATIONS)).double()[None]
    return Sample(z, z > 0)


@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_every_architecture_costs_what_its_probe_says(name, head_bias):
    net = network(CELLS[name], eps=EPS, head_bias=head_bias)
    images, labels = batch(images=4)
    costs = layout(SharedBatch(net, images, labels))
    edges = net.config.cell.edges
    every = list(itertools.product(*(enumerate(edge.indices) for edge in edges)))
    some = every if len(every) < 200 else [every[i] for i in np.random.default_rng(0).permutation(len(every))[:200]]
    for architecture in some:
        place, choice = zip(*architecture)
        expected = probe(net, images, labels, sample_of(choice)).cost[0]
        for e, k in enumerate(choice):
            assert float(costs[(e, *place)]) == pytest.approx(float(expected[e, k]), rel=1e-9, abs=1e-13), (choice, e)


def test_the_whole_table_is_the_enumerated_one():
    net = network(MIXED, eps=EPS)
    data = batch()
    flat = masked(torch.zeros(1, 5, len(OPERATIONS), dtype=torch.float64), MIXED)
    expected = exact_cost(net, *data, flat).conditional[0]
    found = table(SharedBatch(net, *data), every_architecture(net.config))
    mask = torch.tensor(MIXED.mask())
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-9, atol=1e-13)
    assert torch.isnan(found[~mask]).all() and (found[:, NONE] == 0).all()
    # The mean over the layout is the same thing in another order.
    again = exact_tables(MIXED, layout(SharedBatch(net, *data)).numpy()[None])[0]
    np.testing.assert_allclose(again, found.numpy(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("estimator", [Conditioned(), Conditioned(3), Conditioned(16, 3, 2), Sampled()])
def test_estimators_agree_with_the_exact_table_on_average(estimator):
    """Over many draws on one batch the mean lies within four and a half standard errors; a wrong weight moves it by far more."""
    cell = minimal().without(("sep_conv_5x5", "dil_conv_5x5", "max_pool_3x3")).without("sep_conv_3x3", 1)
    net, data = network(cell, channels=2, eps=EPS), batch(images=4, size=4)
    draws = 400 if estimator == Sampled() else 100
    wanted, generator = entries(cell), torch.Generator().manual_seed(1)
    exact = Conditioned(nodes=None).row(net, *data, generator).numpy()
    rows = measure(net, estimator, itertools.repeat(data, draws), generator)
    off = np.abs(rows.mean() - exact)[wanted] / (rows.standard_error()[wanted] + 1e-12)
    assert off.max() < 4.5
    assert rows.standard_error()[wanted].max() < 0.5 * np.abs(exact[wanted]).max(), "else this would say nothing"


def test_the_counterfactual_answer_is_another_one():
    net, data = network(minimal().only(THREE), channels=2), batch(images=4)
    generator = torch.Generator().manual_seed(1)
    exact = Conditioned(nodes=None).row(net, *data, generator).numpy()
    rows = measure(net, Counterfactual(), itertools.repeat(data, 300), generator)
    wanted = entries(net.config.cell)
    assert (rows.count()[wanted] == 300).all()
    assert (np.abs(rows.mean() - exact)[wanted] / rows.standard_error()[wanted]).max() > 8


def test_the_counterfactual_cost_explodes_behind_a_node_of_zeros():
    """Both first edges carry *none* and a pool follows: a derivative of 1/√ε, so a hundredth of ε makes it ten times as large."""
    flat = masked(torch.zeros(1, 5, len(OPERATIONS), dtype=torch.float64), minimal())
    place = sample_of([NONE, NONE, 4, 4, OPERATIONS.index("avg_pool_3x3")]).counterfactual(flat)
    huge, large = (probe(network(eps=eps), *batch(), place).cost[0, 0].abs().max() for eps in (1e-7, 1e-5))
    assert float(huge / large) == pytest.approx(10, rel=1e-2) and float(large) > 1


def test_conditioning_has_less_variance_and_observes_everything():
    net, data = network(minimal(), channels=2), batch(images=4)
    generator = torch.Generator().manual_seed(0)
    wanted = entries(minimal())
    few, many = (
        measure(net, own, itertools.repeat(data, n), generator) for own, n in ((Conditioned(), 12), (Sampled(), 300))
    )
    assert (few.count()[wanted] == 12).all()
    assert np.nanmean(few.variance()[wanted]) < 0.5 * np.nanmean(many.variance()[wanted])


@pytest.mark.parametrize("own", [Conditioned(16, None), Conditioned(8, 2), Conditioned(8, 5, 3), Conditioned(4, 2)])
def test_a_design_gives_every_candidate_its_turn(own):
    design = own.design(NetworkConfig(), torch.Generator().manual_seed(0))
    for f in range(2):
        counts = np.bincount([choice[f] for choice in design.first], minlength=8)
        assert counts.sum() == own.nodes and counts.max() - counts.min() <= 1
        assert own.nodes % 8 or counts.max() == counts.min(), "a whole Latin square is fair"
    assert {k for some in design.between for k in some} == set(range(8))
    assert all(len(set(some)) == len(some) == 2 + (own.between or 6) for some in design.between)
    for some in design.direct:
        assert all(np.bincount([pair[d] for pair in some], minlength=8).tolist() == [own.direct] * 8 for d in range(2))
    assert float(weights(design.between[0], range(8)).sum()) == pytest.approx(1)


def test_what_cannot_be_conditioned_is_refused_in_one_sentence():
    for config in (
        NetworkConfig(cells=2),
        NetworkConfig(cell=darts(3)),
        NetworkConfig(normalization=Normalization("instance")),
        NetworkConfig(normalization=Normalization(affine=True)),
        NetworkConfig(order="conv-relu-norm"),
    ):
        with pytest.raises(ValueError, match="conditioning needs .*; take the sampled estimator there"):
            wiring(config)
    with pytest.raises(ValueError, match="nodes is 0; give a whole number of at least 1"):
        Conditioned(nodes=0)


# --- variance ---------------------------------------------------------------------------------------------------------


def test_variance_components_are_unbiased():
    rng = np.random.default_rng(0)
    architecture = np.array([-2.0, 0.0, 2.0, 0.0])  # a population of four, variance 2

    def once():
        return two_way(architecture + 3 * rng.normal(size=(5, 1)) + 0.5 * rng.normal(size=(5, 4)))

    found = np.array([once() for _ in range(2000)])
    # The mean over four architectures keeps a quarter of the interaction's variance: batches are all that is sampled.
    expected = np.array([2.0, 9.0 + 0.25 / 4, 0.25 * 3 / 4])
    assert np.abs(found.mean(0) - expected).max() < 5 * (found.std(0) / np.sqrt(len(found))).max()
    assert np.abs(found.mean(0) - expected)[[0, 2]] == pytest.approx([0, 0], abs=0.02)


def test_components_add_up_to_the_variance_of_a_probe():
    net = network(minimal().only(THREE), channels=2)
    batches = [batch(seed, images=4) for seed in range(6)]
    tables = torch.stack([layout(SharedBatch(net, *one)) for one in batches]).numpy()
    single, shared = variance_components(net.config, tables)
    wanted = entries(net.config.cell)
    costs = tables[:, 2].take(1, axis=3).reshape(6, -1)  # edge 2, its second candidate
    k = OPERATIONS.index("skip_connect")
    assert single[1, 2, k] == pytest.approx(costs.mean(1).var(ddof=1))
    total = costs.var(axis=0, ddof=1).mean() + costs.mean(0).var() - single[2, 2, k] / 6
    assert single[:, 2, k].sum() == pytest.approx(total)
    assert shared[1] == pytest.approx(single[1])
    assert (shared[2] <= single[2] + 1e-12).all() and (
        shared[0] + shared[2] / 6 <= single[0] + single[2] / 6 + 1e-12
    ).all()
    assert (single[:, ~wanted] == 0).all()


def test_the_best_split_is_the_minimum():
    n = best_split(4.0, 1.0, 0.5, 3.0)

    def price(n):
        return (1.0 + 4.0 / n) * (3.0 + 0.5 * n)

    assert price(n) < min(price(n * 0.9), price(n * 1.1)) and n == pytest.approx(np.sqrt(24))


# --- signs ------------------------------------------------------------------------------------------------------------


def test_signs_are_rarely_wrong_however_often_one_looks():
    """With a true mean of 0 every sign that is called is wrong, which may happen in 5 % of walks: of 300, in 7 % at most."""
    rng = np.random.default_rng(0)
    wanted = np.ones((2, 2), bool)
    walks = [Rows(rng.normal(size=(60, 2, 2)), 1.0) for _ in range(300)]
    wrong = np.mean([np.isfinite(decided(rows, range(4, 61, 4), 0.95, wanted)).any() for rows in walks])
    naive = np.mean([(np.abs(rows.mean()) > 1.96 * rows.standard_error()).any() for rows in walks])
    assert wrong < 0.07 and naive > 0.15


def test_a_clear_sign_is_known_soon_and_a_faint_one_later():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 1, 3)) + np.array([3.0, 0.5, 0.0])
    values[::2, 0, 0] = np.nan  # seen half the time
    steps = decided(Rows(values, 1.0), range(10, 401, 10), 0.95, np.ones((1, 3), bool))[0]
    assert steps[0] <= 20 < steps[1] < 400 and np.isnan(steps[2])
    assert not sign_known(Rows(values[:1], 1.0), 1, 0.95, np.ones((1, 3), bool)).any(), "one observation tells nothing"


class Told:
    """An estimator that returns given rows."""

    def __init__(self, values):
        self.values = iter(torch.tensor(values))

    def row(self, network, images, labels, generator):
        return next(self.values)


def test_adaptive_stops_when_every_sign_is_known_and_agrees_with_the_whole_walk():
    wanted = entries(minimal())
    values = np.random.default_rng(0).normal(size=(200, 5, 8)) + 2
    values[..., NONE] = 0
    net = types.SimpleNamespace(config=NetworkConfig())
    found = adaptive(net, Told(values), itertools.repeat((None, None), 200), None, every=10)
    whole = decided(Rows(values, 1.0), range(10, 201, 10), 0.95, wanted)
    assert np.array_equal(found.signs, whole, equal_nan=True) and len(found.rows.values) == np.nanmax(whole) < 200
    values[:, 0, 1] -= 2  # this one is never known
    found = adaptive(net, Told(values), itertools.repeat((None, None), 200), None, every=10)
    assert len(found.rows.values) == 200 and np.isnan(found.signs[0, 1]) and not found.small.any()


def test_adaptive_stops_where_what_is_left_is_shown_to_be_negligible():
    values = np.random.default_rng(0).normal(size=(400, 5, 8)) + 2
    values[..., NONE] = 0
    values[:, 0, 1] -= 2  # without a sign, and small against the rest
    values[:, 0, 2] -= 1  # half as large as the rest: never shown to be below a quarter of it
    net = types.SimpleNamespace(config=NetworkConfig())

    def after(negligible):
        return adaptive(net, Told(values), itertools.repeat((None, None), 400), None, every=10, negligible=negligible)

    found = after(0.25)
    assert len(found.rows.values) < 300 and found.small[0, 1] and found.small.sum() == 1 and np.isnan(found.signs[0, 1])
    assert np.isfinite(found.signs[0, 2])
    assert len(after(0.5).rows.values) < len(found.rows.values), "a coarser question is answered sooner"
    assert len(after(0.01).rows.values) == 400, "and a finer one not in time"


def test_small_costs_are_called_small_as_rarely_wrongly_as_signs():
    """A cost of just the size that counts as negligible is called smaller in 5 % of walks at most."""
    rng = np.random.default_rng(1)
    wanted, base = np.ones((1, 4), bool), np.array([0.5, 1.2, 1.2, 1.2])
    share = 0.5 / np.sqrt((base**2).mean())
    walks = [Rows(rng.normal(size=(80, 1, 4)) * 0.3 + base, 1.0) for _ in range(200)]
    looks = list(enumerate(range(5, 81, 5), start=1))
    wrong = [
        any(known_small(Rows(own.values[:n], 1.0), j, 0.95, wanted, share)[0, 0] for j, n in looks) for own in walks
    ]
    assert np.mean(wrong) < 0.07
    assert known_small(walks[0], 16, 0.95, wanted, 2 * share)[0, 0], "twice the bound is told from it"


# --- the experiment ---------------------------------------------------------------------------------------------------


def small(**changes):
    values = {
        "network": NetworkConfig(cell=minimal().only(THREE), channels=4),
        "data": DataConfig("digits", images=64, held_out=0.0),
        "epochs": 1, "batch_size": 16, "repeats": 2, "sampled_passes": 2, "layout_batches": 2, "fixed_passes": 2,
        "designs": (Conditioned(2), Conditioned()), "design_batches": 5,
    }  # fmt: skip
    return estimation.EstimatorConfig(**{**values, **changes})


def test_the_experiment_repeats_its_bits_and_says_how_far_it_is():
    heard = []
    first = estimation.run(small(), 0, progress=lambda done, total: heard.append((done, total)))
    again = estimation.run(small(), 0)
    assert heard[-1][0] == heard[-1][1] == len(heard)
    assert {name for name in first if not np.array_equal(first[name], again[name], equal_nan=True)} <= {
        name for name in first if name.endswith("seconds")
    }
    assert (
        first["sampled_mean"].shape == (2, 2, 5, 8) and first["conditioned_count"].max() == first["steps_per_pass"] == 4
    )
    assert (first["sampled_steps"] == 8).all() and (first["conditioned_steps"] == 4).all()
    assert first["exact_single"].shape == first["exact_shared"].shape == (2, 3, 5, 8)
    assert first["design_variance"].shape == (2, 2, 5, 8) and (first["design_steps"] == 5).all()
    assert first["adaptive_signs"].shape == first["adaptive_small"].shape == (2, 5, 8)
    assert (first["adaptive_steps"] <= 2 * first["steps_per_pass"]).all(), "the passes of the repeats are the cap"
    assert not np.array_equal(first["exact_mean"][0], first["exact_mean"][1]), "θ has moved"
    assert estimation.estimate(small()) > 0


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"repeats": 1}, {"layout_batches": 1}, {"confidence": 1.0}, {"fixed_passes": 5},
                                   {"negligible": 0.0}, {"design_batches": 1}])  # fmt: skip
def test_an_impossible_experiment_is_one_sentence(wrong):
    with pytest.raises(ValueError, match="give a"):
        small(**wrong)


# --- every architecture -----------------------------------------------------------------------------------------------


def test_enumeration_probes_every_architecture_and_finds_what_is_off(monkeypatch):
    config = verification.EnumerationConfig(NetworkConfig(minimal().only(THREE), channels=2))
    heard = []
    found = verification.run(config, 0, progress=lambda done, total: heard.append((done, total)))
    assert found["architectures"] == 3**5 == len(list(verification.choices(minimal().only(THREE)))) and heard[-1] == (
        243,
        243,
    )
    wanted = entries(config.network.cell)
    assert found["difference"].max() < 1e-12 < 1e-3 < found["largest"].max()
    np.testing.assert_allclose(found["probed"][wanted], found["shared"][wanted], rtol=1e-9, atol=1e-13)
    assert np.isnan(found["probed"][~np.array(config.network.cell.mask())]).all()
    assert verification.estimate(config, steps=2) > 0
    honest = verification.layout
    monkeypatch.setattr(verification, "layout", lambda batch: honest(batch) * 1.001)
    assert verification.run(config, 0)["difference"].max() > 1e-6, "a wrong shared pass is seen"
