"""What a run takes from the machine that computes it: the number of threads, and what to say of it afterwards."""

import contextlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's threads for one run: bits repeat for one count only. Does nothing for an experiment without torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment(config: Any, device: str) -> dict[str, Any]:
    """Provenance of a run on this machine: device, threads, hardware model and versions. No names of machines."""
    torch = sys.modules.get("torch")
    return {
        "device": device,
        "threads": getattr(config, "threads", 1),
        "hardware": _hardware(device),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": None if torch is None else str(torch.__version__),
    }


def _hardware(device: str) -> str:
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
