"""Time and peak memory of the sides of a workload, each in a process of its own.

A process serves one side: it builds it, and runs a step when it is told to. Two such processes take turns, engine, other,
engine, other, …, so that whatever the machine does meanwhile meets both; and each has its own allocator and its own peak.
Memory is checked before a process starts and bounded while it runs: it fails rather than make the machine swap.

Times are wall-clock seconds, memory is bytes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

import torch

from benchmarks.workloads import ENGINE, KINDS, Step, Workload, kept_bytes, tiny
from nas_core.memory import keep_freed_memory

RESERVE = 1 << 30
"""Bytes that are left to the rest of the machine."""

LONG = 1.0
"""Seconds of a step that does not notice what a pause before it costs: some milliseconds."""

_CONTEXT = multiprocessing.get_context("forkserver")
# The server imports once what its children need, and computes nothing, so that forking it is safe. The second module is
# what PyTorch's optimisers import, for seconds, when the first one is made.
_CONTEXT.set_forkserver_preload(["benchmarks.measure", "torch._dynamo"])


class Failed(RuntimeError):
    """A side could not do its step: the reason in one sentence."""


@dataclass(frozen=True)
class Pace:
    """How long to measure: about ``seconds`` a pair of sides, with at least ``least`` and at most ``most`` pairs, after
    ``warm`` seconds (and at least two steps) of warm-up on each side."""

    seconds: float
    least: int
    most: int
    warm: float

    def pairs(self, seconds_a_pair: float) -> int:
        """The number of pairs when one takes ``seconds_a_pair``."""
        return max(self.least, min(self.most, int(self.seconds / max(seconds_a_pair, 1e-9))))


FULL = Pace(20.0, 3, 101, 2.0)
QUICK = Pace(0.2, 3, 5, 0.0)


# -- memory --------------------------------------------------------------------------------------------------------------


def _status(field: str) -> int | None:
    """A size in /proc/self/status in bytes; None where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), None)


def resident() -> int:
    """What the process has in memory now (its peak so far, where the system does not say)."""
    now = _status("VmRSS")
    return peak() if now is None else now


def peak() -> int:
    """The most that the process has had in memory.

    Not ``ru_maxrss`` where it can be helped: on Linux a child begins with its parent's."""
    most = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 if most is None else most


def available() -> int | None:
    """Bytes that can be taken without swapping, under the container's limit if there is one; None if nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except OSError:
        return free


def _bound() -> None:
    """Let this process take what is available now but the reserve; what asks for more gets an error."""
    free, data = available(), _status("VmData")
    if free is not None and data is not None:
        most = data + max(0, free - RESERVE)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def fits(kept: int) -> bool:
    """Whether a process whose graph keeps ``kept`` bytes can start now: a quarter is added for gradients on their way.

    An estimate: a process that needs more is stopped by its bound."""
    free = available()
    return free is None or kept + kept // 4 <= free - RESERVE


# -- the process of a side -----------------------------------------------------------------------------------------------


def _serve(connection, workload: Workload, side: str, threads: int) -> None:
    """Build a side, then run the steps whose numbers arrive, until none do."""
    try:
        _bound()
        torch.set_num_threads(threads)
        if side == ENGINE:
            # As nas_core.search.run does; a plain script would not.
            keep_freed_memory()
        # Once in small, so that what PyTorch loads at its first step counts for neither side.
        Step(tiny(workload), side)(0)
        step = Step(workload, side)
        connection.send(resident())
        while (numbers := connection.recv()) is not None:
            connection.send(([_timed(step, number) for number in numbers], resident(), peak()))
    except EOFError:
        return
    except (RuntimeError, MemoryError, ValueError) as error:
        connection.send(Failed(_sentence(error)))


def _timed(step: Step, number: int) -> float:
    start = time.perf_counter()
    step(number)
    return time.perf_counter() - start


def _sentence(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "it ran out of memory" if isinstance(error, MemoryError) or "can't allocate" in text else text


class Side:
    """A process that does the steps of one side; close it, or use it in a ``with``.

    Raises :class:`Failed` when the process cannot build the side or do a step."""

    def __init__(self, workload: Workload, side: str, threads: int):
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, workload, side, threads), daemon=True)
        self._process.start()
        theirs.close()
        self.resident = self.baseline = self._answer()
        self._peak = self.baseline

    def _answer(self):
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            answer = Failed(f"its process ended with exit code {self._process.exitcode}")
        if isinstance(answer, Failed):
            self.close()
            raise answer
        return answer

    def run(self, numbers: list[int]) -> list[float]:
        """Seconds of each of these steps."""
        with contextlib.suppress(OSError):  # a process that is gone is noticed below
            self._connection.send(numbers)
        seconds, self.resident, self._peak = self._answer()
        return seconds

    def turn(self, number: int, short: bool) -> float:
        """Seconds of this step, where steps are ``short`` after the one before it, which does not count.

        In a search no step follows a pause: the first one of a turn wakes threads, and finds the other side's maps in the cache. A
        long step does not notice."""
        return self.run([number - 1, number] if short else [number])[-1]

    def warm_up(self, seconds: float) -> float:
        """Run at least two steps, for about ``seconds``; the median of the latest three."""
        end, times = time.monotonic() + seconds, self.run([0])
        while len(times) < 2 or time.monotonic() < end:
            times += self.run([len(times)])
        return median(times[-3:])

    @property
    def peak(self) -> int:
        """The most memory so far, beyond what it had after importing and building."""
        return self._peak - self.baseline

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it has ended already
            self._connection.send(None)
        self._connection.close()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        self.close()


# -- comparing -----------------------------------------------------------------------------------------------------------


def alone(workload: Workload, side: str, threads: int, pace: Pace) -> dict:
    """One side by itself: ``seconds`` of every step and ``peak``, or ``failed`` with the reason."""
    try:
        with Side(workload, side, threads) as process:
            steps = pace.pairs(process.warm_up(pace.warm))
            return {"seconds": process.run(list(range(steps))), "peak": process.peak}
    except Failed as failure:
        return {"failed": str(failure)}


def compare(workload: Workload, other: str, threads: int, pace: Pace) -> dict:
    """The engine and another side of a workload: ``engine`` and ``other``, as :func:`alone` gives them, and whether they
    took turns (``alternating``). A side that does not fit into memory has the bytes that its graph would have ``kept``, and
    those that were ``available``, instead."""
    kept = kept_bytes(workload, other)
    together = _together(workload, other, threads, pace, kept) if fits(kept) else None
    if together is not None:
        return together
    engine, free = alone(workload, ENGINE, threads, pace), available()
    own = alone(workload, other, threads, pace) if fits(kept) else {"kept": kept, "available": free}
    return {"engine": engine, "other": own, "alternating": False}


def _together(workload: Workload, other: str, threads: int, pace: Pace, kept: int) -> dict | None:
    """Both sides in turns; None where they cannot be in memory side by side."""
    try:
        with Side(workload, ENGINE, threads) as left:
            expected = left.warm_up(pace.warm)
            if not fits(kept):
                return None
            with Side(workload, other, threads) as right:
                usual = (expected, right.warm_up(pace.warm))
                short = [own < LONG for own in usual]
                pairs = pace.pairs(sum(own * (1 + led) for own, led in zip(usual, short)))
                times = [(left.turn(i, short[0]), right.turn(i, short[1])) for i in range(pairs)]
                first, second = (list(column) for column in zip(*times))
                return {
                    "engine": {"seconds": first, "peak": left.peak},
                    "other": {"seconds": second, "peak": right.peak},
                    "alternating": True,
                }
    except Failed:
        return None


def measure(workload: Workload, threads: int, pace: Pace) -> dict:
    """Every side of a workload against the engine: side → :func:`compare`."""
    return {other: compare(workload, other, threads, pace) for other in KINDS[workload.kind].others}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
