"""Memory: keeping what is freed for the next step, and moving small tensors to a device without waiting.

A training step frees and asks for the same few hundred megabytes again. By default glibc hands blocks of this size back to the
system, and the system clears every page before it returns: a third of the time of a step with all operations."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

# From malloc.h; 32 MiB is the largest threshold that glibc takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD, NEVER = 1 << 25, (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Ask this process's allocator to keep what is freed; False where the C library has no such setting.

    It holds for the rest of the process, whose memory then stays at its peak. No result depends on it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), mallopt(M_TRIM_THRESHOLD, NEVER)
    return all(kept)


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` from the CPU on ``device``, copied behind the work that is queued there instead of waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
