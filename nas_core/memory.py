"""Memory: keeping what is freed for the next step, in large pages; maps in blocks that fit into a cache; and moving small tensors
to a device without waiting.

A training step frees and asks for the same few hundred megabytes again. By default glibc hands blocks of this size back to the
system, and the system clears every page before it returns: a third of the time of a step with all operations. And a map of some
megabytes lies on thousands of pages of 4 kB, more than the processor remembers the places of."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

# From malloc.h and mman.h; 32 MiB is the largest threshold that glibc takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
LARGEST_MMAP_THRESHOLD, NEVER, DEFAULT_MMAP_MAX = 1 << 25, (1 << 31) - 1, 1 << 16
MADV_HUGEPAGE = 14

RESERVED = 1 << 30
"""Bytes of addresses, not of memory, that are set aside for large pages: what most searches take."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask this process's allocator to keep what is freed, and the system to hold it in large pages; False where the C library
    has no such setting.

    It holds for the rest of the process, whose memory then stays at its peak. No result depends on it."""
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), mallopt(M_TRIM_THRESHOLD, NEVER)
    if all(kept):
        _reserve_large_pages(library)
    return all(kept)


def _reserve_large_pages(library: ctypes.CDLL) -> None:
    """Grow the heap by :data:`RESERVED` bytes that nobody touches yet, and ask for large pages there.

    The allocator fills them first, and the system gives a page only where one is written. Where there is no room for so many
    addresses, or the system has no large pages, nothing changes."""
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # A block of this size is otherwise mapped by itself and given back.
    library.mallopt(M_MMAP_MAX, 0)
    block = library.malloc(RESERVED)
    library.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
    library.free(block)
    start, end = _heap()
    library.madvise(start, end - start, MADV_HUGEPAGE)


def _heap() -> tuple[int, int]:
    """The first and the last address of the heap; the same one twice where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return 0, 0
    sides = [line.split()[0].split("-") for line in lines if line.endswith("[heap]")]
    return (int(sides[0][0], 16), int(sides[-1][1], 16)) if sides else (0, 0)


BLOCK_BYTES = 1 << 20
"""What a block of images may take up: half of it and its result fit into a core's own cache."""


def blocks(*maps: Tensor, share: int = 1) -> Iterator[tuple[Tensor, ...]]:
    """The same few images of every map at a time, as views; on a device other than the CPU all of them at once.

    With ``share`` a block is that many times smaller, for work that has many maps at hand."""
    first = maps[0]
    images = len(first)
    if first.device.type == "cpu":
        images = max(1, BLOCK_BYTES // share // max(1, first[0].numel() * first.element_size()))
    return zip(*(own.split(images) for own in maps))


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` from the CPU on ``device``, copied behind the work that is queued there instead of waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
