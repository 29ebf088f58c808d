"""Random cells, networks, batches and draws on which every identity must hold."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nas_core.operations import NORMALIZATIONS, ORDERS, Norm, Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, Relaxation, Sample, Snas, Uniform, masked
from nas_core.space import OPERATIONS, Cell, Edge
from nas_core.supernet import NetworkConfig, Supernet

Value = TypeVar("Value")

RELAXATIONS = (Darts(), Snas(), Snas(0.3), Dsnas(), Dsnas("reference", 5.0), Proxyless(), Uniform())


@dataclass(frozen=True)
class Case:
    """A float64 network, a batch, α, and what a relaxation draws from it under ``seed``."""

    network: Supernet
    images: Tensor
    labels: Tensor
    log_alpha: Tensor
    relaxation: Relaxation
    sample: Sample
    seed: int


def random_cell(dice: random.Random, *, without: tuple[str, ...] = ()) -> Cell:
    """1 or 2 input nodes, 2 to 5 intermediate nodes, and random edges, candidates and output nodes."""
    inputs, nodes = dice.randint(1, 2), dice.randint(2, 5)
    allowed = [name for name in OPERATIONS if name not in without]
    edges = []
    for target in range(inputs, inputs + nodes):
        for source in sorted(dice.sample(range(target), dice.randint(1, min(target, 3)))):
            edges.append(Edge(source, target, tuple(dice.sample(allowed, dice.randint(1, min(4, len(allowed)))))))
    intermediate = range(inputs, inputs + nodes)
    chosen = set(dice.sample(intermediate, dice.randint(1, nodes)))
    leading = {edge.source for edge in edges}
    outputs = tuple(node for node in intermediate if node in chosen or node not in leading)
    return Cell("random", inputs, nodes, tuple(edges), outputs)


def random_case(
    seed: int,
    *,
    without: tuple[str, ...] = (),
    cells: int | None = None,
    kind: str | None = None,
    order: str | None = None,
    relaxation: Relaxation | None = None,
    head_bias: bool | None = None,
) -> Case:
    """A case under a seed; what is not chosen is drawn: 1 to 3 cells, reduction cells or not, normalisation (random γ
    and β where it has any) and its ε from 1e-9 to 1e-3, order, relaxation, sizes, labels and weights."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    cell = random_cell(dice, without=without)
    # Drawn also where something is given, so that a seed means the same network otherwise.
    cells = _either(cells, dice.randint(1, 3))
    kind = _either(kind, dice.choice([name for name in NORMALIZATIONS if name != "identity"]))
    order = _either(order, dice.choice(ORDERS))
    relaxation = _either(relaxation, dice.choice(RELAXATIONS))
    head_bias = _either(head_bias, dice.random() < 0.3)
    affine, eps = dice.random() < 0.5, 10 ** dice.uniform(-9, -3)
    config = NetworkConfig(
        cell,
        cells=cells,
        channels=dice.choice((2, 4)),
        stem_multiplier=dice.randint(1, 3),
        reduction=cells >= 3 and dice.random() < 0.5,
        head_bias=head_bias,
        normalization=Normalization(kind, affine=affine, eps=eps, groups=2),
        order=order,
    )
    classes, side = dice.randint(2, 10), dice.randint(4, 7)
    network = Supernet(config, classes=classes, seed=seed).double()
    _shift(network, generator)
    images = torch.randn(dice.randint(2, 4), 3, side, side, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (len(images),), generator=generator)
    shape = (config.groups, len(cell.edges), len(OPERATIONS))
    log_alpha = masked(torch.randn(shape, generator=generator, dtype=torch.float64), cell)
    sample = relaxation.sample(log_alpha, torch.Generator().manual_seed(seed))
    return Case(network, images, labels, log_alpha, relaxation, sample, seed)


def _either(given: Value | None, drawn: Value) -> Value:
    return drawn if given is None else given


def _shift(network: Supernet, generator: torch.Generator) -> None:
    """Random γ and β: at 1 and 0 a formula that forgets them would pass."""
    for module in network.modules():
        if isinstance(module, Norm):
            for own in (module.weight, module.bias):
                if own is not None:
                    with torch.no_grad():
                        own.add_(torch.randn(own.shape, generator=generator).to(own), alpha=0.5)
