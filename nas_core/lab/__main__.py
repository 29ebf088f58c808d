"""The lab from a command line: `python -m nas_core.lab [list|run|state|export|attest]`; `--help` says more."""

import argparse
import csv
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nas_core.lab import cluster, experiments, sweep
from nas_core.lab.code import LabError
from nas_core.lab.store import Job, Record, Result, State, Store, load, write_atomically

_PROGRAM = "python -m nas_core.lab"
COLUMNS = ("state", "experiment", "ident", "recipe", "scale", "seed", "dataset", "device", "seconds", "date")
INDICES = 5  # columns of indices in a table; arrays have no more dimensions


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message[0].upper()}{message[1:]}; `{self.prog} --help` shows what is allowed.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a result is STALE or BROKEN (`state`), 2 a wrong value or a failed run, 130 interrupted."""
    try:
        options = _parser().parse_args(arguments)
        return _COMMANDS[options.command or "list"](options, Store())
    except LabError as error:
        print(str(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=_PROGRAM, description="Run recipes and look at recorded results.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="recipes and recorded results (the default)")
    run = commands.add_parser("run", help="compute and record what is not FRESH of a recipe")
    run.add_argument("recipe")
    run.add_argument("--scale", default="tiny", help="tiny (default), small or paper")
    run.add_argument("--seeds", default="0-4", help="such as 0-4 (default) or 0,2,5")
    run.add_argument("--epochs", type=_whole, help="in place of the recipe's")
    run.add_argument("--images", type=_whole, help="training images, both halves together, in place of the recipe's")
    run.add_argument("--label-noise", type=_share, help="share of labels replaced, in place of the recipe's")
    run.add_argument("--dataset", help="auto, digits, cifar10, cifar10-jpeg or a folder, in place of the recipe's")
    run.add_argument("--workers", type=_whole, help="processes; default: one a core, as many as there are runs")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of a dask cluster, to compute there")
    run.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:<number>")
    run.add_argument("--minutes", type=_positive, help="budget: computes fewer seeds where more time is needed")
    commands.add_parser("state", help="the state of every recorded result; exit code 1 unless all are FRESH")
    export = commands.add_parser("export", help="write FRESH results as one file")
    export.add_argument("name", metavar="RECIPE|IDENT")
    export.add_argument("--format", choices=("csv", "json"), default="csv")
    export.add_argument("--out", type=Path, required=True, metavar="PATH")
    attest = commands.add_parser("attest", help="let results of older code count if today's repeats its tiny ones")
    attest.add_argument("experiment")
    attest.add_argument("--old", required=True, metavar="CODE", help="12 digits, from a result's file name")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 up to, not including, 1")
    return share


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


# --- list, state ------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace, store: Store) -> int:
    from nas_core.lab.recipes import RECIPES

    print(f"Recipes ({', '.join(experiments.SCALES)}):")
    for name in sorted(RECIPES):
        first = (RECIPES[name].__doc__ or "").strip().partition("\n")[0]
        print(f"  {name}  {first}".rstrip())
    records = store.records()
    print(f"\nRecorded results: {len(records) or 'none yet'}")
    rows = [COLUMNS, *(_row(record, store) for record in records)] if records else []
    sound = [row for row in rows if len(row) == len(COLUMNS)]
    widths = [max(map(len, column)) for column in zip(*sound, strict=True)]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
    return 0


def _row(record: Record, store: Store) -> tuple[str, ...]:
    meta = record.meta
    if not meta:
        return record.state.name, record.reason
    dataset = (meta.get("dataset") or {}).get("name", "-")
    state = record.state.name + (" (attested)" if meta.get("attested") else "")
    values = [meta["recipe"] or "-", meta["scale"] or "-", meta["seed"], dataset, meta.get("device", "-")]
    texts = [*map(str, values), f"{meta.get('seconds', 0):.0f}", meta["created"][:10]]
    return (state, meta["experiment"], meta["ident"], *texts)


def _state(options: argparse.Namespace, store: Store) -> int:
    records = store.records()
    for record in records:
        attested = record.meta.get("attested")
        note = f"  attested: {attested['evidence']}" if attested else f"  {record.reason}" if record.reason else ""
        print(f"{record.state.name:7s} {record.path.relative_to(store.root)}{note}")
    counts = {state: sum(record.state is state for record in records) for state in State}
    summary = ", ".join(f"{count} {state.name}" for state, count in counts.items() if count)
    print(f"{len(records)} recorded results{': ' if summary else ''}{summary}.")
    return 1 if counts[State.STALE] or counts[State.BROKEN] else 0


# --- run, attest ------------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, store: Store) -> int:
    seeds = experiments.parse_seeds(options.seeds)
    given = {"epochs": options.epochs, "images": options.images, "label_noise": options.label_noise}
    experiment = experiments.experiment_of(options.recipe)
    try:
        config, sentence = experiments.settle(
            options.recipe, options.scale, experiment, store, options.dataset, **given
        )
    except ValueError as error:  # DataError, whose module is not worth importing for its name
        raise LabError(str(error)) from error
    print(sentence, flush=True)
    mode = "refresh" if sweep.mode_of() == "refresh" else "auto"  # "read" is for readers: it sends them to this command
    jobs = [Job(experiment, config, seed, options.recipe, options.scale) for seed in seeds]
    with cluster.dask(options.scheduler):
        results = sweep.obtain(
            jobs, mode=mode, workers=options.workers, store=store, minutes=options.minutes, device=options.device
        )
    recorded = experiments.format_seeds(result.meta["seed"] for result in results)
    print(
        f"{options.recipe} ({options.scale}), seeds {recorded}: FRESH in "
        f"results/{store.folder(jobs[0]).relative_to(store.root)}."
    )
    return 0


def _attest(options: argparse.Namespace, store: Store) -> int:
    evidence = sweep.attest(options.experiment, options.old, store)
    print(f"Results of {options.experiment} by the code {options.old} now count as FRESH; {evidence}.")
    return 0


# --- export -----------------------------------------------------------------------------------------------------------


def _export(options: argparse.Namespace, store: Store) -> int:
    records = store.records()
    named = [record for record in records if options.name in (record.meta.get("recipe"), record.meta.get("ident"))]
    fresh = [record for record in named if record.state is State.FRESH]
    skipped = len(named) - len(fresh)
    if not fresh:
        there = f"its {skipped} recorded results are STALE" if skipped else "no result is recorded under this name"
        raise LabError(f"Nothing to export for {options.name!r}: {there}; `{_PROGRAM}` lists what there is.")
    if not options.out.parent.is_dir():
        raise LabError(f"There is no folder {options.out.parent}: make it, or give another --out.")
    if options.out.is_dir():
        raise LabError(f"{options.out} is a folder: give a file's name as --out.")
    results = [load(record.path) for record in fresh]
    text = _as_json(results) if options.format == "json" else _as_csv(results)
    write_atomically(options.out, text.encode())
    note = f"; {skipped} STALE left out" if skipped else ""
    print(f"{len(fresh)} results in {options.out}{note}.")
    return 0


def _as_json(results: Sequence[Result]) -> str:
    """A list of {"meta", "arrays"}; NaN, which JSON lacks, is null."""
    content = [
        {"meta": result.meta, "arrays": {name: _nested(array) for name, array in result.arrays.items()}}
        for result in results
    ]
    return json.dumps(content, allow_nan=False) + "\n"


def _nested(array: np.ndarray) -> Any:
    if array.dtype.kind != "f":
        return array.tolist()
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()


def _as_csv(results: Sequence[Result]) -> str:
    """One row an element: recipe, scale, seed, array, i0 ... i4 (empty beyond the array's dimensions), value."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["recipe", "scale", "seed", "array", *(f"i{axis}" for axis in range(INDICES)), "value"])
    for result in results:
        source = [result.meta["recipe"], result.meta["scale"], result.meta["seed"]]
        for name, array in result.arrays.items():
            blank = [""] * (INDICES - array.ndim)
            table.writerows([*source, name, *index, *blank, value] for index, value in np.ndenumerate(array))
    return buffer.getvalue()


_COMMANDS = {"list": _list, "run": _run, "state": _state, "export": _export, "attest": _attest}

if __name__ == "__main__":
    sys.exit(main())
