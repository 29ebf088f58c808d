"""Small float64 networks, batches and α for the tests of the science modules."""

import torch

from nas_core.operations import Normalization
from nas_core.relaxation import masked
from nas_core.space import OPERATIONS, minimal
from nas_core.supernet import NetworkConfig, Supernet

POOLS = ("none", "skip_connect", "max_pool_3x3")


def batch(seed=0, images=6, size=6, channels=3, classes=10):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, channels, size, size, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (images,), generator=generator)


def network(cell=None, cells=1, channels=4, seed=0, eps=1e-5, normalization=None, **choices):
    normalization = normalization or Normalization(eps=eps)
    config = NetworkConfig(cell or minimal(), cells=cells, channels=channels, normalization=normalization, **choices)
    return Supernet(config, seed=seed).double()


def log_alpha(net, seed=0, scale=1.0):
    config = net.config
    generator = torch.Generator().manual_seed(seed)
    shape = (config.groups, len(config.cell.edges), len(OPERATIONS))
    return masked(scale * torch.randn(shape, generator=generator, dtype=torch.float64), config.cell)
