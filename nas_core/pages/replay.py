"""α alone, replayed: the steps of DSNAS on costs drawn from their recorded mean and variance, in place of a network.

What a phase diagram measures has two parts: how α answers a given cost, and how the cost answers α. The replay keeps the
first and cuts the second, with nothing to fit: costs are those of the runs with the slowest α at the same rate of θ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas_core.derive import surviving
from nas_core.pages import summary
from nas_core.pages.evidence import lowest_of
from nas_core.relaxation import Dsnas, masked

REPEATS = 24
"""Replays of every point: a multiple of two and three, the seeds of most points."""


def replayed(group: Sequence, rates: Sequence[float], repeats: int = REPEATS, seed: int = 0) -> np.ndarray:
    """``[rates, repeats, epochs + 1, E]`` of bool: which edges are alive when α, at each learning rate, is charged the
    cost that ``group``, runs of one cell, recorded. Repeat r takes the record of run r modulo their number."""
    config, cell = group[0].meta["config"]["alpha"], summary.cell_of(group[0])
    means, spreads, steps = _records(group, repeats)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(rates), repeats, *means.shape[2:], generator=generator, dtype=torch.float64)
    alphas = [(config["initial_mean"] + config["initial_std"] * own).requires_grad_() for own in start]
    adam = torch.optim.Adam(
        [{"params": [own], "lr": rate} for own, rate in zip(alphas, rates, strict=True)],
        betas=tuple(config["betas"]),
        weight_decay=config["weight_decay"],
    )
    alive = [_alive(alphas)]
    for epoch in range(means.shape[1]):
        mean, spread = (values[:, epoch].repeat(len(rates), 1, 1) for values in (means, spreads))
        for _ in range(steps):
            log_alpha = masked(torch.cat([own.detach() for own in alphas]), cell)
            sample = Dsnas().sample(log_alpha, generator)
            cost = mean + spread * torch.randn(mean.shape, generator=generator, dtype=torch.float64)
            gradient = Dsnas().alpha_gradient(log_alpha, sample, cost)
            for own, part in zip(alphas, gradient.split(repeats), strict=True):
                own.grad = part.nan_to_num()
            adam.step()
        alive.append(_alive(alphas))
    return np.stack(alive, axis=2)


def _records(group: Sequence, repeats: int) -> tuple[Tensor, Tensor, int]:
    """Mean and standard deviation ``[repeats, X, E, K]`` of the only cell's cost, and the steps of an epoch. What was
    not drawn in an epoch takes its operation's mean over the search."""
    mean, variance = (summary.stack(group, f"step_cost_{name}")[:, :, 0] for name in ("mean", "variance"))
    over_epochs = np.nan_to_num(summary.band(mean.swapaxes(0, 1))[0])[:, None]
    mean = np.where(np.isfinite(mean), mean, over_epochs)
    steps = int(summary.stack(group, "step_cost_count")[:, :, 0].sum(axis=-1).max())
    which = np.arange(repeats) % len(group)
    spread = np.sqrt(np.nan_to_num(variance))
    return torch.from_numpy(mean[which]), torch.from_numpy(spread[which]), steps


def _alive(alphas: Sequence[Tensor]) -> np.ndarray:
    return surviving(torch.stack([own.detach() for own in alphas]).softmax(dim=-1).numpy())


def share_dropped(alive: np.ndarray, seeds: int) -> float:
    """``[repeats, epochs + 1, E]`` → the share of edges dropped at the minimum, read as from ``seeds`` runs at a time:
    few runs make a minimum look less deep."""
    shares = alive[:, 1:].mean(axis=-1)
    batches = [shares[first : first + seeds] for first in range(0, len(shares) - seeds + 1, seeds)]
    return 1 - float(np.mean([lowest_of(batch).mean() for batch in batches]))
