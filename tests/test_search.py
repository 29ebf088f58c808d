"""The search: bits, resumption, the independence of its switches, what it records, and how it stops."""

import dataclasses
import itertools
import json
import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nas_core import data, search
from nas_core.config import ALPHA_DATA, LEVELS, AlphaConfig, SearchConfig, ThetaConfig
from nas_core.cost import Measurement, by_group, loss_and_entropy, probe, unrolled_cost
from nas_core.data import DataConfig
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Sample, Snas, Uniform, probability
from nas_core.search import run
from nas_core.space import NONE, OPERATIONS, minimal
from nas_core.supernet import NetworkConfig, Supernet

GOLDEN = Path(__file__).parent / "golden" / "trajectories.json"

TINY = SearchConfig(
    network=NetworkConfig(cells=2, channels=4),
    data=DataConfig(dataset="digits", images=96, label_noise=0.2),
    batch_size=16,
    epochs=4,
    statistics_epochs=1,
    evaluation_images=32,
    alpha=AlphaConfig(learning_rate=0.05),
)

ONE_BATCH = dict(batch_size=48, evaluation_images=None, statistics_epochs=0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert np.array_equal(left[name], right[name], equal_nan=True), name


def different(left, right, name):
    return not np.array_equal(left[name], right[name], equal_nan=True)


@pytest.mark.parametrize("relaxation", [Darts(), Snas(1.0, 0.1), Dsnas(), Proxyless(), Uniform()], ids=lambda r: r.name)
def test_identical_seeds_give_identical_bits_and_others_do_not(relaxation):
    config = dataclasses.replace(TINY, relaxation=relaxation, epochs=2)
    first = run(config, 3)
    torch.manual_seed(99)
    equal(first, run(config, 3))
    assert different(first, run(config, 4), "loss")


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(dataclasses.replace(TINY, epochs=1), 0)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_recorded_has_the_documented_shape():
    arrays = run(TINY, 0)
    shapes = {name: value.shape for name, value in arrays.items()}
    assert shapes == {
        "log_alpha": (5, 1, 5, 8),
        "probability": (5, 1, 5, 8),
        "evaluated": (5,),
        "train_loss": (4,),
        "train_accuracy": (4,),
        "accuracy": (5, 2),
        "loss": (5, 2),
        "entropy": (5, 2),
        "split_count": (5, 2, 2),
        "split_loss": (5, 2, 2),
        "split_entropy": (5, 2, 2),
        "edge_cost": (5, 2, 2, 5),
        **{f"cost_{part}": (5, 2, 2, 5, 8) for part in ("mean", "variance", "count")},
        **{f"step_cost_{part}": (4, 2, 5, 8) for part in ("mean", "variance", "count")},
        **{f"statistics_{part}": (2, 5, 8) for part in ("mean", "variance", "count")},
    }
    assert np.allclose(arrays["probability"].sum(-1), 1)
    assert np.all(arrays["cost_mean"][..., NONE] == 0)
    weights = arrays["split_count"] / arrays["split_count"].sum(-1, keepdims=True)
    assert np.allclose(np.nansum(weights * arrays["split_loss"], -1), arrays["loss"])
    assert np.allclose(weights[..., 0], arrays["accuracy"])


def test_evaluations_follow_their_interval_and_always_end_with_the_last_epoch():
    arrays = run(dataclasses.replace(TINY, epochs=5, evaluation_every=2), 0)
    assert arrays["evaluated"].tolist() == [0, 2, 4, 5]


def outcomes(**changes):
    """``{(level, alpha_data): arrays}`` of the six combinations."""
    return {
        (level, source): run(dataclasses.replace(TINY, level=level, alpha_data=source, **changes), 0)
        for level in LEVELS
        for source in ALPHA_DATA
    }


def test_level_and_alpha_data_are_independent_switches():
    """All six combinations run and no two give the same α."""
    alphas = [value["log_alpha"][-1].tobytes() for value in outcomes(epochs=2).values()]
    assert len(set(alphas)) == 6


def test_single_and_bi_start_from_the_same_cost_and_part_at_theta_s_step():
    """One step: α's cost and hence its step do not know the level; θ's loss is that at the old α or at the new one."""
    got = outcomes(epochs=1, **ONE_BATCH)
    for source in ALPHA_DATA:
        single, bi = got["single", source], got["bi", source]
        assert np.allclose(single["step_cost_mean"], bi["step_cost_mean"], rtol=0, atol=1e-7)
        assert np.allclose(single["log_alpha"], bi["log_alpha"], rtol=0, atol=1e-4)
        # θ's one batch is the whole training set, on which the first evaluation measured the loss at the old α.
        assert abs(single["train_loss"][0] - single["loss"][0, 0]) < 1e-6
        assert abs(bi["train_loss"][0] - bi["loss"][0, 0]) > 1e-3
    costs = {source: got["bi", source]["step_cost_mean"][0] for source in ALPHA_DATA}
    assert np.allclose(costs["same"], costs["train"], rtol=0, atol=1e-6), "one batch holds all of θ's images"
    assert np.abs(costs["same"] - costs["held_out"]).max() > 1e-3


def test_held_out_images_are_never_used_by_theta(monkeypatch):
    """Spoiling the held-out images changes α when α sees them, and nothing that is trained when it does not."""
    original = search.prepare

    def spoiled(*args, **kwargs):
        splits = original(*args, **kwargs)
        held_out = dataclasses.replace(splits.held_out, images=-splits.held_out.images)
        return dataclasses.replace(splits, held_out=held_out)

    for source, changes in (("same", False), ("train", False), ("held_out", True)):
        config = dataclasses.replace(TINY, alpha_data=source, epochs=2)
        before = run(config, 0)
        with monkeypatch.context() as patch:
            patch.setattr(search, "prepare", spoiled)
            after = run(config, 0)
        assert different(before, after, "log_alpha") is changes
        assert different(before, after, "train_loss") is changes, "θ sees the change only through α"


def test_fixed_alpha_stays_uniform_and_fixed_theta_stays_put():
    arrays = run(dataclasses.replace(TINY, alpha=None), 0)
    assert np.all(arrays["log_alpha"] == 0)
    assert arrays["loss"][-1, 0] != arrays["loss"][0, 0]
    arrays = run(dataclasses.replace(TINY, alpha=None, theta=None, relaxation=Darts()), 0)
    assert np.array_equal(arrays["loss"][0], arrays["loss"][-1])


def test_single_level_alpha_steps_from_the_cost_of_theta_s_batch():
    """One epoch of one batch: α's step is Adam's first step, of size lr against the sign of (∂Z/∂α)·C."""
    config = dataclasses.replace(
        TINY,
        level="single",
        alpha_data="same",
        epochs=1,
        batch_size=48,
        alpha=AlphaConfig(learning_rate=0.05, weight_decay=0.0, clip=None, initial_std=0.0),
    )
    arrays = run(config, 0)
    cost = arrays["step_cost_mean"][0].sum(0)
    sign = np.sign(cost.mean(-1, keepdims=True) - cost)
    assert np.allclose(arrays["log_alpha"][1, 0] - arrays["log_alpha"][0, 0], 0.05 * sign, atol=1e-4)


def started(seed=0, **changes):
    """A search at its start, the steps of which a test takes by itself."""
    config = dataclasses.replace(TINY, **changes)
    return search._Search(config, seed, "cpu", search.prepare(config.data, seed))


def one_path(own, operation):
    """The sample in which every edge is ``operation``."""
    z = torch.zeros(own.log_alpha.shape, dtype=torch.float64)
    z[..., OPERATIONS.index(operation)] = 1
    return Sample(z, z > 0)


class HandSgd:
    """SGD with momentum, weight decay and a bound on the gradient's norm, as a page would write it, in float64."""

    def __init__(self, network, theta):
        self.theta = theta
        self.weights = {name: p.detach().double().clone() for name, p in network.named_parameters()}
        self.momentum = {}

    def step(self, gradients):
        """Weights whose gradient is None rest, unless they are to move: then their gradient is 0."""
        t = self.theta
        norm = sum(float(g.double().square().sum()) for g in gradients.values() if g is not None) ** 0.5
        for name, gradient in gradients.items():
            if gradient is None and t.idle == "frozen":
                continue
            bounded = 0 if gradient is None else gradient.double() * min(1.0, t.clip / norm)
            change = bounded + t.weight_decay * self.weights[name]
            self.momentum[name] = t.momentum * self.momentum.get(name, 0) + change
            self.weights[name] = self.weights[name] - t.learning_rate * self.momentum[name]
        return norm


def take_theta_step(own, operation, hand):
    """A step of the search and of ``hand`` on the same gradients: their norm, and the names of the idle weights."""
    probe(own.network, *next(own.batches(own.splits.train, "train_order")), one_path(own, operation), train=True)
    gradients = {name: p.grad if p.grad is None else p.grad.clone() for name, p in own.network.named_parameters()}
    own.step_theta()
    assert all(p.grad is None for p in own.network.parameters()), "or the next probe would add to them"
    return hand.step(gradients), [name for name, gradient in gradients.items() if gradient is None]


@pytest.mark.parametrize("idle", ["frozen", "moving"])
@pytest.mark.parametrize("clip, binds", [(5.0, False), (0.05, True)])
def test_theta_steps_are_those_of_sgd_written_by_hand(idle, clip, binds):
    """Three steps on changing paths, clipped or not: idle weights rest to the bit, or drift by momentum and decay."""
    theta = ThetaConfig(learning_rate=0.1, weight_decay=0.02, clip=clip, idle=idle)
    own = started(theta=theta)
    hand = HandSgd(own.network, theta)
    for operation in ("sep_conv_3x3", "dil_conv_5x5", "max_pool_3x3"):
        before = {name: p.detach().clone() for name, p in own.network.named_parameters()}
        norm, resting = take_theta_step(own, operation, hand)
        assert (norm > clip) is binds and resting
        for name, parameter in own.network.named_parameters():
            assert torch.allclose(parameter.double(), hand.weights[name], rtol=0, atol=1e-6), name
            if name in resting:
                assert torch.equal(parameter, before[name]) is (idle == "frozen"), name


def adam(values, gradients, config):
    """Adam written by hand, with the gradient's norm bounded first and weight decay added to it after."""
    first, second = np.zeros_like(values), np.zeros_like(values)
    for step, gradient in enumerate(gradients, 1):
        if config.clip is not None:
            gradient = gradient * min(1.0, config.clip / np.linalg.norm(gradient))
        gradient = gradient + config.weight_decay * values
        first = config.betas[0] * first + (1 - config.betas[0]) * gradient
        second = config.betas[1] * second + (1 - config.betas[1]) * gradient**2
        scaled = first / (1 - config.betas[0] ** step)
        values = values - config.learning_rate * scaled / (np.sqrt(second / (1 - config.betas[1] ** step)) + 1e-8)
    return values


def measured(cost):
    return Measurement(torch.tensor(1.0), torch.zeros(2, 10), cost)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_alpha_steps_are_those_of_adam_written_by_hand(clip):
    """A large cost and then small ones: Adam forgets a scale common to all steps, but not that one of them was cut."""
    config = AlphaConfig(learning_rate=0.05, clip=clip, initial_std=0.5, weight_decay=0.01)
    own = started(alpha=config, relaxation=Dsnas())
    generator = torch.Generator().manual_seed(0)
    values, gradients = own.log_alpha.detach().numpy().copy(), []
    start = values.copy()
    for scale in (100.0, 0.01, 0.01):
        sample = own.draw()
        cost = scale * torch.randn(2, 5, 8, generator=generator)
        gradients.append(Dsnas().alpha_gradient(own.masked_alpha(), sample, cost.double().sum(0, keepdim=True)).numpy())
        own.step_alpha(sample, measured(cost))
        values = adam(start, gradients, config)
        assert np.allclose(own.log_alpha.detach().numpy(), values, rtol=0, atol=1e-6)


def test_a_baseline_is_the_running_mean_of_each_edge_s_reward():
    """α's gradients are those of the score function times (reward − mean of the earlier rewards), edge by edge; and a
    checkpoint carries the mean."""
    alpha = AlphaConfig(clip=None)
    config = dataclasses.replace(TINY, level="single", alpha_data="same", relaxation=Dsnas(baseline=0.5), alpha=alpha)
    own, again = (search._Search(config, 0, "cpu", data.prepare(config.data, 0)) for _ in range(2))
    mean = torch.zeros(1, 5, dtype=torch.float64)
    for batch in itertools.islice(own.batches(own.splits.train, "train_order"), 3):
        p, sample = probability(own.masked_alpha()), own.draw()
        measured = probe(own.network, *batch, sample)
        reward = (sample.z * by_group(own.network, measured.cost)).sum(-1)
        own.step_alpha(sample, measured)
        expected = (sample.z - p) * (reward - mean)[..., None]
        assert torch.allclose(own.log_alpha.grad, expected, rtol=0, atol=1e-12)
        mean = 0.5 * mean + 0.5 * reward
    again.restore(own.state())
    assert torch.allclose(again.baseline, mean) and float(mean.abs().max()) > 0


def test_alpha_starts_where_its_configuration_says():
    own = started(seed=3, alpha=AlphaConfig(initial_mean=1.5, initial_std=0.25))
    noise = torch.randn(1, 5, 8, generator=data.stream(3, "alpha"), dtype=torch.float64)
    assert torch.equal(own.log_alpha.detach(), 1.5 + 0.25 * noise)
    still = started(alpha=AlphaConfig(initial_mean=1.0, initial_std=0.0))
    assert torch.all(still.log_alpha == 1)


def test_annealing_ends_with_the_last_epoch_and_reaches_draws_and_gradients():
    own = started(relaxation=Snas(1.0, 0.01), epochs=3)
    for epoch, temperature in enumerate((1.0, 0.1, 0.01, 0.01)):
        own.epoch = epoch
        now = own.relaxation()
        assert now.temperature == pytest.approx(temperature)
        twin = torch.Generator()
        twin.set_state(own.generators["sample"].get_state())
        expected = Snas(temperature).sample(own.masked_alpha(), twin).z
        assert torch.allclose(own.draw().z, expected, rtol=0, atol=1e-9)
    assert started(relaxation=Snas(1.0, 0.01), epochs=1).relaxation().temperature == 1.0


def test_alpha_s_gradient_is_taken_at_the_annealed_temperature():
    own = started(relaxation=Snas(1.0, 0.5), epochs=3, alpha=AlphaConfig(clip=None))
    own.epoch = 2
    sample, cost = own.draw(), torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    summed = cost.double().sum(0, keepdim=True)
    expected = Snas(0.5).alpha_gradient(own.masked_alpha(), sample, summed)
    own.step_alpha(sample, measured(cost))
    # α's gradient is kept until the next step; decay is Adam's own affair and not in it.
    assert torch.allclose(own.log_alpha.grad, expected, rtol=0, atol=1e-12) and float(expected.abs().max()) > 0.1


def test_training_images_are_augmented_and_evaluated_ones_are_not():
    own = started(data=dataclasses.replace(TINY.data, augment="crop-flip"), batch_size=48)
    twin = torch.Generator()
    twin.set_state(own.generators["train_order"].get_state())
    (images, labels), *_ = own.batches(own.splits.train, "train_order")
    expected, same = next(data.batches(own.splits.train, 48, twin, augment="crop-flip"))
    assert torch.equal(images, expected) and torch.equal(labels, same)
    unmoved = {image.numpy().tobytes() for image in own.splits.train.images}
    assert sum(image.numpy().tobytes() in unmoved for image in images) < 24
    plain = [part for part, _ in search._plain_batches(own.splits.train, 16, 40)]
    assert torch.equal(torch.cat(plain), own.splits.train.images[:32]), "equal batches only, from the front"


def direct_evaluation(own, split):
    """With DARTS, over 48 images: losses, entropies and hits ``[48]``, costs ``[3, N, E, K]``, the edges' mean cost."""
    sample = Darts().sample(own.masked_alpha(), None)
    parts = [(split.images[start : start + 16], split.labels[start : start + 16]) for start in (0, 16, 32)]
    measurements = [probe(own.network, *part, sample) for part in parts]
    logits, labels = torch.cat([m.logits for m in measurements]).double(), split.labels
    p = logits.softmax(1)
    losses, entropies = -p[range(48), labels].log(), -(p * p.log()).sum(1)
    costs = torch.stack([m.cost.double() for m in measurements])
    return losses, entropies, logits.argmax(1) == labels, costs, (sample.z * costs).sum(-1).mean(0)


def test_an_evaluation_says_what_a_direct_computation_says():
    """Loss, entropy, both again over the images that are right and over those that are wrong, and the cost."""
    own = started(relaxation=Darts(), evaluation_images=None)
    with torch.no_grad():
        own.network.head.weight.mul_(20)  # confident logits, right or wrong
    for split in (own.splits.train, own.splits.held_out):
        got = own.evaluate_split(split)
        losses, entropies, right, costs, edges = direct_evaluation(own, split)
        assert 1 < right.sum() < 47, "both parts must have images"
        expected = {
            "accuracy": right.double().mean(),
            "loss": losses.mean(),
            "entropy": entropies.mean(),
            "split_count": torch.stack([right.sum(), (~right).sum()]).double(),
            "split_loss": torch.stack([losses[right].mean(), losses[~right].mean()]),
            "split_entropy": torch.stack([entropies[right].mean(), entropies[~right].mean()]),
            "edge_cost": edges,
            "cost_mean": costs.mean(0),
            "cost_variance": costs.var(0),
        }
        for name, value in expected.items():
            assert torch.allclose(got[name], value, rtol=0, atol=1e-9), name
        assert abs(float(losses.mean() - entropies.mean())) > 1e-3
        assert abs(float(got["split_entropy"].diff())) > 1e-2


@pytest.mark.parametrize("theta", [None, ThetaConfig()], ids=["theta-fixed", "theta-trained"])
def test_statistics_are_those_of_all_batches_by_direct_computation(theta):
    """Two passes with θ and α fixed: count, mean and variance over the batches in which an operation was drawn."""
    own = started(relaxation=Uniform(), alpha=None, theta=theta, statistics_epochs=2)
    weights = {name: value.clone() for name, value in own.network.state_dict().items()}
    twins = {name: torch.Generator() for name in ("train_order", "sample")}
    for name, twin in twins.items():
        twin.set_state(own.generators[name].get_state())
    costs = []
    for _ in range(2):
        own.statistics_epoch()
        for images, labels in data.batches(own.splits.train, 16, twins["train_order"]):
            sample = Uniform().sample(own.masked_alpha(), twins["sample"])
            cost = probe(own.network, images, labels, sample).cost.double()
            costs.append(torch.where(sample.active, cost, torch.nan).numpy())
    assert own.statistics_done == 2 and len(costs) == 6
    assert all(torch.equal(value, weights[name]) for name, value in own.network.state_dict().items())
    costs, got = np.stack(costs), own.result()
    count = (~np.isnan(costs)).sum(0)
    assert np.array_equal(got["statistics_count"], count) and count.max() > 1 and count.min() == 0
    for entry in np.ndindex(count.shape):
        seen = costs[(slice(None), *entry)]
        seen = seen[~np.isnan(seen)]
        mean = seen.mean() if len(seen) else np.nan
        variance = seen.var(ddof=1) if len(seen) > 1 else np.nan
        assert np.isclose(got["statistics_mean"][entry], mean, rtol=0, atol=1e-12, equal_nan=True), entry
        assert np.isclose(got["statistics_variance"][entry], variance, rtol=0, atol=1e-12, equal_nan=True), entry


def test_the_training_loss_is_the_mean_over_images_not_over_batches():
    """With θ and α fixed, batches of 20, 20 and 8 images."""
    own = started(theta=None, alpha=None, relaxation=Darts(), batch_size=20)
    twin = torch.Generator()
    twin.set_state(own.generators["train_order"].get_state())
    own.train_epoch()
    sample = Darts().sample(own.masked_alpha(), None)
    losses, rights = [], []
    for images, labels in data.batches(own.splits.train, 20, twin):
        logits = own.network(images, sample).detach()
        losses.append(loss_and_entropy(logits, labels)[0])
        rights.append(logits.argmax(1) == labels)
    assert [len(part) for part in losses] == [20, 20, 8]
    arrays = own.result()
    assert abs(float(torch.cat(losses).mean()) - arrays["train_loss"][0]) < 1e-6
    assert abs(float(torch.cat(rights).double().mean()) - arrays["train_accuracy"][0]) < 1e-12
    assert abs(float(torch.stack([part.mean() for part in losses]).mean()) - arrays["train_loss"][0]) > 1e-3


def test_second_order_looks_ahead_on_theta_s_batch_and_judges_on_alpha_s():
    """One step on whole sets: the recorded cost is that of a step of θ on its images, judged on the held-out ones."""
    choices = dict(epochs=1, theta=ThetaConfig(learning_rate=0.5, weight_decay=0.1), **ONE_BATCH)
    got = run(dataclasses.replace(TINY, second_order=True, **choices), 0)["step_cost_mean"][0]
    own = started(**choices)
    theta, alpha = ((split.images, split.labels) for split in (own.splits.train, own.splits.held_out))
    sample = Darts().sample(own.masked_alpha(), None)
    step = dict(learning_rate=0.5, weight_decay=0.1)
    expected = unrolled_cost(own.network, theta, alpha, sample, **step).cost.double().numpy()
    assert np.allclose(got, expected, rtol=0, atol=1e-5)
    for other in (unrolled_cost(own.network, alpha, theta, sample, **step), probe(own.network, *alpha, sample)):
        assert np.abs(got - other.cost.numpy()).max() > 1e-2, "neither swapped sets nor the first order give this"


def test_second_order_looks_ahead_with_theta_s_momentum_and_present_rate():
    own = started(second_order=True, theta=ThetaConfig(learning_rate=0.5), epochs=4, **ONE_BATCH)
    own.train_epoch()
    theta, alpha = (next(own.batches(split, "train_order")) for split in (own.splits.train, own.splits.held_out))
    own.theta_step.param_groups[0]["lr"] = 0.3
    sample, got = own.alpha_measurement(alpha, theta)
    momentum = {name: 0.9 * own.theta_step.state[p]["momentum_buffer"] for name, p in own.network.named_parameters()}
    step = dict(learning_rate=0.3, weight_decay=3e-4)
    expected = unrolled_cost(own.network, theta, alpha, sample, momentum=momentum, **step)
    assert torch.allclose(got.cost, expected.cost, rtol=0, atol=1e-7)
    without = unrolled_cost(own.network, theta, alpha, sample, **step)
    assert float((got.cost - without.cost).abs().max()) > 1e-3


def test_reduction_cells_have_an_alpha_of_their_own():
    """Of four cells the two in the middle reduce: each α takes Adam's first step down the cost of its own two cells."""
    network = NetworkConfig(cells=4, channels=4, reduction=True)
    alpha = AlphaConfig(learning_rate=0.05, weight_decay=0.0, clip=None, initial_std=0.0)
    arrays = run(dataclasses.replace(TINY, network=network, alpha=alpha, epochs=1, **ONE_BATCH), 0)
    cost, step = arrays["step_cost_mean"][0], np.diff(arrays["log_alpha"], axis=0)[0]
    assert step.shape == (2, 5, 8)
    for group, cells in enumerate(((0, 3), (1, 2))):
        own = cost[list(cells)].sum(0)
        gradient = (own - own.mean(-1, keepdims=True)) / 8
        clear = np.abs(gradient) > 1e-6
        assert clear.mean() > 0.9 and np.allclose(step[group][clear], -0.05 * np.sign(gradient[clear]), atol=1e-3)
    assert not np.allclose(step[0], step[1])
    net = Supernet(network)
    assert [cell.stride for cell in net.cells] == [1, 2, 2, 1] and net.head.in_features == 2 * 4 * 4


def test_a_loss_that_is_not_finite_stops_the_search():
    config = dataclasses.replace(TINY, theta=ThetaConfig(learning_rate=1e30, clip=1e30))
    with pytest.raises(search.Diverged, match=r"the loss is nan at epoch \d+, step \d+; lower the learning rate"):
        run(config, 0)


@pytest.mark.parametrize("work", ["train_epoch", "statistics_epoch", "evaluate"])
def test_no_part_of_a_search_accepts_a_loss_that_is_not_finite(work):
    own = started(alpha_data="same", level="single")
    with torch.no_grad():
        own.network.head.weight[0, 0] = np.nan
    where = "in the evaluation after epoch 0" if work == "evaluate" else "at epoch 1"
    with pytest.raises(search.Diverged, match=f"the loss is nan {where}, step 1; lower the learning rate"):
        getattr(own, work)()


def test_a_bad_batch_of_alpha_s_stops_the_search_before_alpha_steps():
    own = started(relaxation=Dsnas())
    before = own.log_alpha.detach().clone()
    own.splits.held_out.images.fill_(np.inf)
    with pytest.raises(search.Diverged, match="the loss is nan at epoch 1, step 1"):
        own.train_epoch()
    assert torch.equal(own.log_alpha, before)


class Waits(TorchDispatchMode):
    """How often the host reads a tensor's value, for which it would have to wait for a device."""

    calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += function.name() in ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch_size", [16, 8])
def test_training_and_statistics_with_alpha_fixed_wait_for_nothing_within_an_epoch(batch_size):
    """However many steps an epoch has, the host reads as many values: those of the losses, together, at its end."""
    own = started(relaxation=Uniform(), alpha=None, batch_size=batch_size)
    for epoch in (own.train_epoch, own.statistics_epoch):
        own.draw()
        plan = Waits()
        with plan:
            own.network.plan(own.draw())
        steps = len(list(own.batches(own.splits.train, "evaluation")))
        with Waits() as waits:
            epoch()
        # Drawing and planning read what is on the CPU already.
        assert waits.calls - steps * plan.calls <= 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_alpha_that_is_not_finite_stops_the_search(bad):
    own = started(relaxation=Darts())
    cost = torch.zeros(2, 5, 8)
    cost[0, 3, 4] = bad
    with pytest.raises(search.Diverged, match="log α is no longer finite in epoch 1; lower α's learning rate"):
        own.step_alpha(own.draw(), measured(cost))


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(level="tri"), "level is 'tri'; allowed are single, bi"),
        (dict(alpha_data="test"), "allowed are same, train, held_out"),
        (dict(epochs=-1), "epochs is -1"),
        (dict(epochs=2.5), "epochs is 2.5; give a whole number"),
        (dict(batch_size=1), "batch_size is 1"),
        (dict(epochs=0, statistics_epochs=0), "nothing to do"),
        (dict(data=DataConfig(held_out=0.0)), "set some images aside"),
        (dict(second_order=True, level="single"), "second_order needs"),
        (dict(second_order=True, alpha=None), "second_order needs"),
        (dict(second_order=True, theta=None), "second_order needs"),
        (dict(second_order=True, relaxation=Proxyless()), "second_order cannot be had with ProxylessNAS"),
        (dict(evaluation_images=1), "evaluation_images is 1"),
    ],
)
def test_an_impossible_search_is_refused_in_one_sentence(change, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        dataclasses.replace(TINY, **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: NetworkConfig(cells=0), "cells is 0"),
        (lambda: NetworkConfig(cells=2, reduction=True), "at least 3"),
        (lambda: Normalization("weight"), "allowed are batch"),
        (lambda: Normalization(eps=-1.0), "eps is -1.0"),
        (lambda: Supernet(NetworkConfig(channels=6, normalization=Normalization("group"))), "groups"),
        (lambda: Supernet(NetworkConfig(order="conv")), "allowed are relu-conv-norm"),
        (lambda: Snas(0.0), "above 0"),
        (lambda: Dsnas("published"), "allowed are corrected, reference"),
        (lambda: AlphaConfig(learning_rate=0.0), "above 0"),
        (lambda: ThetaConfig(idle="asleep"), "allowed are frozen, moving"),
    ],
)
def test_impossible_parts_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


RESUMED = dataclasses.replace(TINY, relaxation=Snas(1.0, 0.2), epochs=40, statistics_epochs=3)


def save(checkpoint, output):
    """What a process does that is killed: the run, then its arrays in a file."""
    torch.set_num_threads(1)
    np.savez(output, **run(RESUMED, 7, checkpoint=checkpoint))


def test_killed_at_ten_random_moments_and_resumed_it_ends_with_the_same_bits(tmp_path):
    expected = run(RESUMED, 7)
    checkpoint, output = tmp_path / "run.pt", tmp_path / "out.npz"
    # Processes of their own that need not import PyTorch, and what a run imports late, ten times over.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "sklearn.datasets", "torch._dynamo"])
    dice = random.Random(0)
    kills = 0
    for attempt in range(60):
        child = processes.Process(target=save, args=(checkpoint, output))
        child.start()
        if kills < 10:
            # Wait until this child has begun to work, then kill it anywhere within the next epochs.
            seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
            while child.is_alive() and (checkpoint.stat().st_mtime_ns if checkpoint.exists() else None) == seen:
                time.sleep(0.002)
            time.sleep(dice.uniform(0, 0.08))
            if child.is_alive():
                child.kill()
                kills += 1
            child.join()
        else:
            child.join()
            assert child.exitcode == 0
        if output.exists():
            break
    assert kills == 10, "the run was over before it could be killed ten times"
    with np.load(output) as saved:
        equal(expected, dict(saved))


def test_an_interrupted_run_continues_instead_of_starting_again(tmp_path):
    checkpoint = tmp_path / "run.pt"

    class Stop(Exception):
        pass

    def stop_at_two(done, total):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        run(TINY, 0, checkpoint=checkpoint, progress=stop_at_two)
    heard = []
    resumed = run(TINY, 0, checkpoint=checkpoint, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(3, 5), (4, 5), (5, 5)]
    equal(resumed, run(TINY, 0))


@pytest.mark.parametrize("seed, change", [(1, {}), (0, dict(epochs=3)), (0, dict(theta=ThetaConfig(momentum=0.8)))])
def test_the_checkpoint_of_another_run_is_refused_and_kept(tmp_path, seed, change):
    short = dataclasses.replace(TINY, epochs=2, statistics_epochs=0)
    checkpoint = tmp_path / "run.pt"
    run(short, 0, checkpoint=checkpoint)
    saved = checkpoint.read_bytes()
    with pytest.raises(ValueError, match="belongs to a run with another configuration or seed") as caught:
        run(dataclasses.replace(short, **change), seed, checkpoint=checkpoint)
    assert "\n" not in str(caught.value)
    assert checkpoint.read_bytes() == saved


def golden_runs():
    """Short trajectories whose every change has to be explained."""
    cases = {
        "darts_bilevel": TINY,
        "darts_single": dataclasses.replace(TINY, level="single", alpha_data="same"),
        "snas": dataclasses.replace(TINY, relaxation=Snas(), level="single", alpha_data="same"),
        "dsnas_corrected": dataclasses.replace(TINY, relaxation=Dsnas(), level="single", alpha_data="same"),
        "dsnas_reference": dataclasses.replace(
            TINY,
            relaxation=Dsnas("reference", 5.0),
            level="single",
            alpha_data="same",
            theta=ThetaConfig(idle="moving"),
        ),
        "proxylessnas": dataclasses.replace(TINY, relaxation=Proxyless(), level="single", alpha_data="same"),
        "uniform": dataclasses.replace(TINY, relaxation=Uniform(), alpha=None),
    }
    outcome = {}
    for name, config in cases.items():
        arrays = run(config, 1)
        outcome[name] = {
            "loss": arrays["loss"][:, 0].round(4).tolist(),
            "alpha": arrays["log_alpha"][-1, 0, 4].round(4).tolist(),
            "cost": arrays["edge_cost"][-1, 1, -1].round(4).tolist(),
        }
    return outcome


def test_golden_trajectories():
    """Committed values, to 2e-3: bits differ between machines, the mathematics does not.

    Renew with `python -m tests.test_search`.
    """
    expected = json.loads(GOLDEN.read_text())
    got = golden_runs()
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        for part, numbers in values.items():
            assert np.allclose(got[name][part], numbers, rtol=0, atol=2e-3), (name, part)


def test_the_estimate_is_of_the_right_order():
    config = dataclasses.replace(TINY, epochs=10, statistics_epochs=0)
    seconds = search.estimate(config)
    start = time.perf_counter()
    run(config, 0)
    spent = time.perf_counter() - start
    assert spent / 5 < seconds < spent * 5


def test_the_minimal_cell_is_the_default():
    assert SearchConfig().network.cell == minimal()


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps(golden_runs(), indent=1) + "\n")
