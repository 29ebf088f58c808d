"""How time and memory of the engine grow, and whether anything grows that should not.

Seconds are the median of a few steps, memory is bytes beyond the process's own before the first step."""

from __future__ import annotations

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
