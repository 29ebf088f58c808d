"""How time and memory of the engine grow, and whether anything grows that should not.

Seconds are the median of a few steps, memory is bytes beyond the process's own before the first step."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks.measure import Failed, Pace, Side, alone
from benchmarks.workloads import ENGINE, Workload

BASE = Workload("darts")
CURVES = {
    "cells": (1, 2, 4, 8),
    "nodes": (2, 3, 4, 5),
    "batch": (24, 48, 96, 192),
}
"""One size at a time, from the minimal cell at batch 96; every operation runs and the weights learn."""

DEEP = Workload("darts", cells=8, nodes=4)
LIMIT = 12 * 10**9
"""Bytes that :data:`DEEP`, eight cells of four nodes at batch 96 without reduction, may take."""

PACE = Pace(6.0, 3, 11, 0.0)
SEEDS = {"paper": Workload("theta"), "small": Workload("theta", cells=2, channels=8, size=16, batch=64)}
"""Steps of which several seeds are to be run, at the sizes of two scales."""
SOAK = Workload("theta", channels=4, size=8, batch=8)


def curves(
    threads: int,
    *,
    base: Workload = BASE,
    values: dict[str, tuple[int, ...]] = CURVES,
    deep: Workload = DEEP,
    pace: Pace = PACE,
) -> dict:
    """``curves``: a size's name → its points: the ``value``, the median ``seconds`` of ``n`` steps and the ``peak``.

    ``deep`` is such a point of the large network, ``limit`` what it may take."""
    found = {
        name: [{"value": value} | _point(replace(base, **{name: value}), threads, pace) for value in own]
        for name, own in values.items()
    }
    return {
        "base": base.plain_data(),
        "curves": found,
        "deep": {"workload": deep.plain_data()} | _point(deep, threads, pace),
        "limit": LIMIT,
    }


def _point(workload: Workload, threads: int, pace: Pace) -> dict:
    measured = alone(workload, ENGINE, threads, pace)
    if "failed" in measured:
        return measured
    return {"seconds": median(measured["seconds"]), "peak": measured["peak"], "n": len(measured["seconds"])}


def seeds(cores: int, *, workloads: dict[str, Workload] = SEEDS, seconds: float = 10.0) -> dict:
    """Steps a second of all ``cores``: as many processes of one thread each beside each other (``processes``), or one process of
    as many threads (``threads``), by the scale's name."""
    found = {}
    for name, workload in workloads.items():
        try:
            found[name] = {
                "processes": _rate(workload, cores, 1, seconds),
                "threads": _rate(workload, 1, cores, seconds),
            }
        except Failed as failure:
            found[name] = {"failed": str(failure)}
    return {"cores": cores, "workloads": {name: own.plain_data() for name, own in workloads.items()}, "rates": found}


def _rate(workload: Workload, processes: int, threads: int, seconds: float) -> float:
    """Steps a second of so many processes at once, after a warm-up."""
    with ExitStack() as stack:
        sides = [stack.enter_context(Side(workload, ENGINE, threads)) for _ in range(processes)]
        steps = max(3, int(seconds / max(side.warm_up(0.0) for side in sides)))
        pool = stack.enter_context(ThreadPoolExecutor(processes))
        start = time.perf_counter()
        list(pool.map(lambda side: side.run(list(range(steps))), sides))
        return processes * steps / (time.perf_counter() - start)


def soak(threads: int, *, steps: int = 10_000, chunk: int = 1000) -> dict:
    """Many tiny steps in one process: what it has in memory (``resident``) after every ``chunk`` of them, and the
    ``growth`` from the first to the last."""
    try:
        with Side(SOAK, ENGINE, threads) as process:
            resident = []
            for start in range(0, steps, chunk):
                process.run(list(range(start, start + chunk)))
                resident.append(process.resident)
    except Failed as failure:
        return {"failed": str(failure)}
    return {
        "workload": SOAK.plain_data(),
        "steps": steps,
        "chunk": chunk,
        "resident": resident,
        "growth": resident[-1] - resident[0],
    }
