"""Small float64 networks on which a page checks an identity while it is being built."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Sample, masked
from nas_core.space import OPERATIONS, minimal
from nas_core.supernet import NetworkConfig, Supernet

EPSILON = 1e-9
"""The ε of batch normalisation in these checks: small, so that what remains is not its own residual."""


def example(
    *, without: str | Iterable[str] = (), cells: int = 1, seed: int = 0
) -> tuple[Supernet, tuple[Tensor, Tensor], Tensor, Sample]:
    """A stack of minimal cells, a random batch of 8 images, a random log α, and what DARTS draws from it."""
    cell = minimal().without(without)
    config = NetworkConfig(cell, cells=cells, channels=4, normalization=Normalization(eps=EPSILON))
    network = Supernet(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (8,), generator=generator)
    shape = (config.groups, len(cell.edges), len(OPERATIONS))
    log_alpha = masked(torch.randn(shape, generator=generator, dtype=torch.float64), cell)
    return network, (images, labels), log_alpha, Darts().sample(log_alpha, generator)
