"""``python -m benchmarks``: measure, print the tables, and write them down."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import chapters, launches, measure, report, roofline, scaling, startup, table
from benchmarks.workloads import WORKLOADS, Workload, tiny
from nas_core.lab.code import LabError, fingerprint

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results.json", FOLDER / "README.md"
SECTIONS = ("launches", "table", "seeds", "startup", "scaling", "soak")
CHAPTERS = "chapters"
"""Stands for every chapter of the book; one alone goes by its own name."""
QUICK = (
    "theta-minimal",
    "statistics-minimal",
    "snas-minimal",
    "darts-minimal",
    "bilevel-8x4-reduction",
    "launches",
    "table",
    "seeds",
    "startup",
)
"""What a quick run measures: every kind of step once, and a network with reduction cells."""
QUICK_CHAPTER = "01_introduction"
QUICK_OPTIONS = ("-p", "epochs", "2", "-p", "images", "64")


def main(arguments: list[str] | None = None) -> int:
    """The command; bad input is one sentence on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        chosen = _chosen(options)
        out = _out(options)
        results = _measured(chosen, options.threads or measure.cores(), options.quick)
        if out is not None:
            results = _write(out, results)
    except (ValueError, OSError, LabError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(report.render(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes and few steps, to see that it works")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help=f"measure only these: {', '.join((*WORKLOADS, *SECTIONS, CHAPTERS))}, or one chapter by its name",
    )
    parser.add_argument("--threads", type=int, help="threads of every process (default: all cores)")
    parser.add_argument("--scaling", action="store_true", help="time and memory against cells, nodes and batch, too")
    parser.add_argument("--soak", action="store_true", help="ten thousand tiny steps, too")
    parser.add_argument("--chapters", action="store_true", help="every chapter of the book at scale tiny, too")
    parser.add_argument(
        "--out", type=Path, help=f"a JSON file, with the tables in a .md beside it (default: {RESULTS.name}, README.md)"
    )
    return parser


def _chosen(options: argparse.Namespace) -> list[str]:
    """The names to measure, in the order of the table."""
    allowed = (*WORKLOADS, *SECTIONS, CHAPTERS, *chapters.names())
    for name in options.only or ():
        if name not in allowed:
            raise ValueError(f"there is nothing to measure named {name!r}; allowed are {', '.join(allowed)}")
    if options.threads is not None and not 1 <= options.threads <= measure.cores():
        raise ValueError(
            f"--threads is {options.threads}; give a whole number from 1 to {measure.cores()}, the cores of this machine"
        )
    wanted = set(options.only or (QUICK if options.quick else (*WORKLOADS, "launches", "table", "seeds", "startup")))
    wanted |= {name for name in ("scaling", "soak", CHAPTERS) if getattr(options, name)}
    if CHAPTERS in wanted:
        wanted |= {QUICK_CHAPTER} if options.quick else set(chapters.names())
    return [name for name in allowed if name in wanted and name != CHAPTERS]


def _out(options: argparse.Namespace) -> Path | None:
    """Where the JSON goes; a quick run writes nothing unless told where to."""
    out = options.out or (None if options.quick else RESULTS)
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"there is no folder {out.parent}; make it, or give another --out")
    if out is not None and (out.is_dir() or out.suffix == ".md"):
        raise ValueError(f"--out is {out}; give the name of a JSON file")
    return out


# -- measuring -----------------------------------------------------------------------------------------------------------


def _measured(chosen: list[str], threads: int, quick: bool) -> dict:
    results: dict = {"provenance": _provenance(threads, quick)}
    workloads = {name: tiny(WORKLOADS[name]) if quick else WORKLOADS[name] for name in chosen if name in WORKLOADS}
    if workloads:
        machine = roofline.machine(threads, **({"seconds": 0.05, "matrix": 256, "copied": 1 << 24} if quick else {}))
        results["machine"] = asdict(machine)
        results["workloads"] = {name: _workload(name, own, threads, quick) for name, own in workloads.items()}
    for name in SECTIONS:
        if name in chosen:
            _say(name)
            results[name] = _section(name, threads, quick)
    if some := [name for name in chapters.names() if name in chosen]:
        _say(f"{CHAPTERS} {', '.join(some)}")
        results[CHAPTERS] = chapters.chapters(some, QUICK_OPTIONS if quick else ())
    return results


def _workload(name: str, workload: Workload, threads: int, quick: bool) -> dict:
    _say(name)
    return {
        "workload": workload.plain_data(),
        "least": asdict(roofline.least_work(workload)),
        "sides": measure.measure(workload, threads, measure.QUICK if quick else measure.FULL),
    }


def _section(name: str, threads: int, quick: bool) -> dict:
    if name == "launches":
        return launches.launches({"tiny": tiny(WORKLOADS["snas-minimal"])} if quick else None)
    if name == "table":
        return table.compare(threads, table.QUICK if quick else table.FULL)
    if name == "seeds":
        return scaling.seeds(threads, **({"workloads": {"tiny": tiny(scaling.BASE)}, "seconds": 0.1} if quick else {}))
    if name == "startup":
        return startup.startup(1 if quick else 5)
    if name == "soak":
        return scaling.soak(threads, **({"steps": 60, "chunk": 20} if quick else {}))
    if not quick:
        return scaling.curves(threads)
    base, values = tiny(scaling.BASE), {"cells": (1, 2), "nodes": (2, 3), "batch": (4, 8)}
    return scaling.curves(threads, base=base, values=values, deep=tiny(scaling.DEEP), pace=measure.QUICK)


def _say(name: str) -> None:
    print(f"{name} ...", file=sys.stderr, flush=True)


def _provenance(threads: int, quick: bool) -> dict:
    """What the numbers depend on; no path and no name of the machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": _cpu(),
        "cores": measure.cores(),
        "threads": threads,
        "memory": _memory(),
        "code": fingerprint("nas_core.search"),
        "quick": quick,
    }


def _proc(path: str, field: str) -> str:
    """The first value of a field in a file of /proc; empty where there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _cpu() -> str:
    return _proc("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> int | None:
    text = _proc("/proc/meminfo", "MemTotal")
    return int(text.split()[0]) << 10 if text else None


# -- writing -------------------------------------------------------------------------------------------------------------


def _write(out: Path, results: dict) -> dict:
    """Write JSON and tables; what was measured before by the same code on the same machine stays. Returns it all."""
    merged = rounded(merge(_before(out), results))
    page = PAGE if out == RESULTS else out.with_suffix(".md")
    table = report.render(merged)
    text = report.insert(page.read_text(encoding="utf-8"), table) if out == RESULTS else table
    out.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    return merged


def _before(out: Path) -> dict:
    try:
        return json.loads(out.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{out} is not JSON ({error}); remove it, or give another --out") from error


def merge(before: dict, now: dict) -> dict:
    """``now``, and from ``before`` what it lacks, if both come from the same code, machine and threads."""

    def origin(results: dict) -> dict:
        return {key: value for key, value in results.get("provenance", {}).items() if key != "date"}

    if origin(before) != origin(now):
        return now
    merged = before | now
    both = before.get("workloads", {}) | now.get("workloads", {})
    if both:
        merged["workloads"] = {name: both[name] for name in WORKLOADS if name in both}
    some = before.get("chapters", {}).get("chapters", {}) | now.get("chapters", {}).get("chapters", {})
    if some:
        merged["chapters"] = {"limit": chapters.LIMIT, "chapters": dict(sorted(some.items()))}
    return merged


def rounded(value):
    """Plain data with seconds to the microsecond: more digits would only be noise."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
