"""The report of :func:`nas_core.audit.audit`: what P1 to P3 came to, in sentences, tables and figures, beside the four
frameworks as they are recorded; and the command ``python -m nas_core audit``.
"""

from __future__ import annotations

import argparse
import html
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from matplotlib.figure import Figure

from nas_core.audit import BILEVEL, SCALES, SINGLE, Audit, audit, frameworks
from nas_core.data import DataError
from nas_core.lab.code import LabError
from nas_core.lab.experiments import parse_seeds
from nas_core.lab.store import write_atomically
from nas_core.methods import AuditError
from nas_core.pages import evolution_tables, figures, style, summary
from nas_core.pages.claims import number
from nas_core.pages.evidence import SHARE, percent, with_interval
from nas_core.pages.evolution_figures import shape_over_time
from nas_core.pages.parameters import Parameters
from nas_core.pages.runs import recorded
from nas_core.pages.tables import markdown as markdown_table
from nas_core.patterns import FEW, SIGNIFICANT, Measures
from nas_core.search import Diverged

RECORDED = {
    "DARTS": {SINGLE: "corrected_darts_single", BILEVEL: "reference_darts_bilevel"},
    "SNAS": {SINGLE: "reference_snas"},
    "DSNAS": {SINGLE: "corrected_dsnas"},
    "ProxylessNAS": {SINGLE: "corrected_proxylessnas"},
}
"""The recipes of the paper's four frameworks, by level."""
MINUTES = 10.0
UNKNOWN = "–"
KINDS = ("input", "intermediate")


def beside(scale: str, say: Callable[[str], None] = lambda words: None) -> list[Audit]:
    """The four frameworks as recorded at a scale, with the seeds that they have; what is not recorded is left out, and
    ``say`` names the command that computes it."""
    found = []
    for name, levels in RECORDED.items():
        runs = recorded(Parameters(scale=scale), levels, _named(name, say))
        if runs:
            found.append(Audit(name, summary.cell_of(next(iter(runs.values()))[0]), runs))
    return found


def _named(name: str, say: Callable[[str], None]) -> Callable[[str], None]:
    """``say``, whose sentences begin with a framework's name."""
    return lambda words: say(f"{name}, {words}")


# -- words and tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A table before it is Markdown or HTML; the first ``words`` columns are text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def markdown(self) -> str:
        return markdown_table(self.header, self.rows, text=self.words)

    def html(self) -> str:
        def line(cells: Sequence[str], kind: str) -> str:
            return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return f"<table><caption>{html.escape(self.title)}</caption>{line(self.header, 'th')}{body}</table>"


def _with(audits: Iterable[Audit], level: str) -> list[tuple[str, Measures]]:
    return [(own.name, own.measures(level)) for own in audits if own.runs.get(level)]


def _epochs(own: Measures) -> str:
    return str(own.alive.shape[1] - 1)


def _share(value: float) -> str:
    return number(value) if np.isfinite(value) else UNKNOWN


def _of(flags: np.ndarray) -> str:
    return f"{int(flags.sum())} of {len(flags)}"


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):g}" if known.size else UNKNOWN


def growth_table(audits: Sequence[Audit]) -> Table:
    """P1: edges alive at the minimum and at the end, when they drop and come back, and how many runs grow."""
    rows = [
        (name, str(len(own.runs)), _epochs(own), with_interval(own.lowest, within=SHARE), with_interval(own.last, within=SHARE),
         _median(own.dropped), _median(own.recovered), _of(own.grows))
        for name, own in _with(audits, SINGLE)
    ]  # fmt: skip
    header = ("single-level", "n", "epochs", "share alive at the minimum", "at the end", "epoch of drop")
    return Table("P1, growth", (*header, "of recovery", "runs that grow"), tuple(rows))


def width_table(audits: Sequence[Audit]) -> Table:
    """P2: edges of both classes that are alive at the end and that came back, the derived cell's shape beside that of a cell
    with as many edges at random, and the exact test."""
    rows = []
    for name, own in _with(audits, SINGLE):
        width, depth, wide_by_chance, deep_by_chance = own.shapes.mean(axis=0)
        untested = bool(_untested(own))
        judged = "not tested" if untested else "wide" if own.wide else "not shown"
        rows.append(
            (name, str(len(own.runs)), *(_share(own.alive_share(kind)) for kind in KINDS),
             UNKNOWN if untested else _share(own.p_width), judged, *(_share(own.recovered_share(kind)) for kind in KINDS),
             f"{number(width)} ({number(wide_by_chance)})", f"{number(depth)} ({number(deep_by_chance)})")
        )  # fmt: skip
    header = ("single-level", "n", "input alive", "intermediate alive", "p", "P2", "input back", "intermediate back")
    return Table("P2, width", (*header, "width (by chance)", "depth (by chance)"), tuple(rows))


def catastrophe_table(audits: Sequence[Audit]) -> Table:
    """P3: edges alive at the end of bi-level search, beside single-level search."""
    rows = [
        (own.name, str(len(bi.runs)), _epochs(bi), with_interval(bi.last, within=SHARE),
         with_interval(own.single.last, within=SHARE) if own.runs.get(SINGLE) else UNKNOWN, _of(bi.fails))
        for own in audits if own.runs.get(BILEVEL) for bi in [own.bilevel]
    ]  # fmt: skip
    header = ("bi-level", "n", "epochs", "share alive at the end", "single-level", "runs that fail")
    return Table("P3, catastrophic failure", header, tuple(rows))


def tables(audits: Sequence[Audit]) -> list[Table]:
    """P1, P2 and P3 for every audit that has them."""
    return [own for make in (growth_table, width_table, catastrophe_table) if (own := make(audits)).rows]


def findings(own: Audit) -> list[str]:
    """What the runs of a method show, a sentence a pattern."""
    said = []
    if own.runs.get(SINGLE):
        one = own.single
        said.append(
            f"P1, growth: {_of(one.grows)} runs drop all edges, or all but {percent(FEW)} of them, at once and recover some; "
            f"{number(float(one.lowest.mean()))} of the edges are alive at the minimum, "
            f"{number(float(one.last.mean()))} at the end."
        )
        said.append(_width_words(one))
    if own.runs.get(BILEVEL):
        bi = own.bilevel
        said.append(
            f"P3, catastrophic failure: {_of(bi.fails)} bi-level runs end with at most {percent(FEW)} of their edges; "
            f"{number(float(bi.last.mean()))} of the edges are alive at the end."
        )
    else:
        said.append("P3, catastrophic failure: not tested, as there is no bi-level run.")
    return said


def _untested(own: Measures) -> str:
    """Why P2 cannot be tested in these runs; empty where it can."""
    if not np.isfinite(own.p_width):
        return f"the {own.cell.name} cell has edges of one class only"
    kept = own.alive[:, -1].sum(axis=1)
    return "every run kept all of its edges or none" if np.isin(kept, (0, own.alive.shape[-1])).all() else ""


def _width_words(own: Measures) -> str:
    if reason := _untested(own):
        return f"P2, width: not tested, as {reason}."
    verb = "is" if own.wide else "is not shown to be"
    return (
        f"P2, width: the method {verb} biased towards width; {number(own.alive_share('intermediate'))} of the intermediate and "
        f"{number(own.alive_share('input'))} of the input edges are kept, and so few intermediate ones, or fewer, come by "
        f"chance with p = {number(own.p_width)} (flagged below {SIGNIFICANT:g})."
    )


def edge_table(own: Audit) -> str:
    """When each edge was dropped and came back, one column a level, in Markdown."""
    return evolution_tables.edges({f"{own.name}, {level}": runs for level, runs in own.runs.items() if runs})


# -- figures ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """A run whose statistics are those of a part of its search."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


def cost_maps(own: Audit, level: str = SINGLE) -> Figure:
    """The mean cost per edge and operation in the first and in the last quarter of the epochs, one map below the other."""
    measures, panels = own.measures(level), {}
    for title, late in (("first quarter of the epochs", False), ("last quarter", True)):
        maps = measures.cost_map(late)
        panels[title] = [
            _View(run.meta, {"statistics_mean": mean[None]}) for run, mean in zip(measures.runs, maps, strict=True)
        ]
    return figures.heat_map(panels)


def by_name(audits: Sequence[Audit], level: str = SINGLE) -> dict[str, list]:
    """The runs of one level by the method's name, as figures take them."""
    return {own.name: list(own.runs[level]) for own in audits if own.runs.get(level)}


@dataclass(frozen=True)
class Drawing:
    """A figure of a report, its caption, and the runs that it shows."""

    caption: str
    figure: Figure
    results: dict[str, list]
    drawn: str = "lines"

    def html(self) -> str:
        known = not any(run.meta.get("own") for runs in self.results.values() for run in runs)
        shown = style.show(self.figure, self.results if known else None, drawn=self.drawn)
        return f"<figure>{shown._repr_html_()}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


def drawn(own: Audit, others: Sequence[Audit]) -> list[Drawing]:
    """The figures of a report: edges alive, width and depth beside ``others``, and the method's cost maps."""
    both, found = [own, *others][: len(style.SERIES)], []
    for level, words in ((SINGLE, "P1: edges alive over epochs, single-level"), (BILEVEL, "P3: the same, bi-level")):
        if own.runs.get(level):
            results = by_name(both, level)
            found.append(Drawing(f"{words} search.", figures.survivors(results), results))
    if own.runs.get(SINGLE):
        results = _alike(own, by_name(both))
        found.insert(1, Drawing("P2: width and depth of the likeliest cell.", shape_over_time(results), results))
    for level, words in ((SINGLE, "single-level"), (BILEVEL, "bi-level")):
        if own.runs.get(level) and own.measures(level).knows_cost:
            caption = f"{own.name}, {words}: mean cost per edge and operation, early and late."
            found.append(Drawing(caption, cost_maps(own, level), {own.name: list(own.runs[level])}, drawn="map"))
    return found


def _alike(own: Audit, results: dict[str, list]) -> dict[str, list]:
    """Those whose cells have as many nodes, which can share axes of width and depth."""
    return {name: runs for name, runs in results.items() if summary.cell_of(runs[0]).nodes == own.cell.nodes}


def absent(others: Sequence[Audit]) -> str:
    """Which of the four frameworks do not stand beside a method, and how to get them; empty where all do."""
    lacking = [name for name in RECORDED if name not in {own.name for own in others}]
    if not lacking:
        return ""
    return (
        f"Not beside it, for want of recorded runs at this scale: {', '.join(lacking)}. An installed nas_core brings no recorded "
        "runs: they are the folder results/ of its repository. Run the command there, or name that folder in NAS_RESULTS_ROOT."
    )


# -- the report ------------------------------------------------------------------------------------------------------------


def markdown(own: Audit, others: Sequence[Audit] = ()) -> str:
    """The report without figures."""
    parts = [f"# {own.name}: an audit", *(f"- {sentence}" for sentence in findings(own))]
    for table in tables([own, *others]):
        parts += ["", f"**{table.title}**", "", table.markdown()]
    parts += ["", "**Edges**: when each was dropped and came back", "", edge_table(own)]
    parts += [line for words in (absent(others), _source(own)) if words for line in ("", words)] + [""]
    return "\n".join(parts)


_CSS = """body{font:16px/1.5 system-ui,sans-serif;max-width:52em;margin:2em auto;padding:0 1em;color:#1f2328;background:#fff}
table{border-collapse:collapse;margin:1em 0;font-size:.85em;display:block;overflow-x:auto}caption{text-align:left;font-weight:600}
th,td{border-bottom:1px solid #d0d7de;padding:.25em .6em;text-align:right}th:first-child,td:first-child{text-align:left}
figure{margin:1.5em 0}figcaption{font-size:.9em}"""


def page(own: Audit, others: Sequence[Audit] = ()) -> str:
    """The report as one HTML page that loads nothing."""
    name = html.escape(own.name)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}: an audit</title>',
        f"<style>{_CSS}</style></head><body><main><h1>{name}: an audit</h1><ul>",
        *(f"<li>{html.escape(sentence)}</li>" for sentence in findings(own)),
        "</ul>",
        *(table.html() for table in tables([own, *others])),
    ]
    parts += [drawing.html() for drawing in drawn(own, others)]
    parts += [f"<p><small>{html.escape(words)}</small></p>" for words in (absent(others), _source(own)) if words]
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _source(own: Audit) -> str:
    runs = [run for level in own.runs.values() for run in level]
    if any(run.meta.get("own") for run in runs):
        return f"{len(runs)} runs of the training function {own.name}, on data of its own."
    return f"{own.name}: {summary.provenance(runs)}. {sum(run.meta['seconds'] for run in runs) / 60:.1f} minutes of one core."


# -- the command -----------------------------------------------------------------------------------------------------------


def in_processes(workers: int) -> Callable[[Callable, Iterable], Iterable]:
    """A mapping over ``workers`` processes, for the parameter ``each`` of an audit; classes of a notebook travel too."""
    if workers == 1:
        return map

    def each(function: Callable, tasks: Iterable) -> list:
        from joblib import Parallel, delayed

        return Parallel(n_jobs=workers, backend="loky", batch_size=1)(delayed(function)(task) for task in tasks)

    return each


def load(target: str) -> Any:
    """The method that ``module:name`` means; a class is called without arguments. Raises :class:`AuditError`."""
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise AuditError(
            f"{target!r} names no method; write module:Class, such as my_method:MyMethod for my_method.py here"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except AttributeError:
        raise AuditError(f"the module {module} has no {name}; check the name after the colon") from None
    except Exception as error:
        sentence = " ".join(str(error).split())
        raise AuditError(f"the module {module} cannot be imported ({type(error).__name__}: {sentence})") from error
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:
        sentence = " ".join(str(error).split())
        raise AuditError(f"{target} cannot be made without arguments ({sentence}); give its fields defaults") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise AuditError(f"{message}; `{self.prog} --help` shows what is allowed")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m nas_core audit", description="Measure P1 to P3 and the cost of a search method.")
    parser.add_argument("method", metavar="module:Class", help="a relaxation, or a function train(cell, seed)")
    parser.add_argument(
        "--scale", choices=tuple(SCALES), default="tiny", help="tiny (default): digits; small: CIFAR-10"
    )
    usual = ", ".join(f"0-{own.seeds[-1]} at {name}" for name, own in SCALES.items())
    parser.add_argument("--seeds", help=f"such as 0-4 or 0,2,5 (default: {usual})")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="takes as many seeds as fit (default: 10)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--out", type=Path, help="an .html or .md file; without it the report is printed as Markdown")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 a bad value, a bad method or a failed run (one sentence), 130 interrupted."""
    try:
        options = _parser().parse_args(arguments)
        _check(options)
        return _report(options)
    except (AuditError, DataError, Diverged, LabError) as error:
        print(str(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _check(options: argparse.Namespace) -> None:
    if not options.minutes > 0:
        raise AuditError(f"--minutes is {options.minutes:g}; give a number above 0")
    if options.workers < 1:
        raise AuditError(f"--workers is {options.workers}; give a whole number of at least 1")
    if options.out is not None and options.out.suffix not in (".html", ".md"):
        raise AuditError(f"--out is {str(options.out)!r}; give a file that ends in .html or .md")
    if options.out is not None and not options.out.parent.is_dir():
        raise AuditError(f"there is no folder {str(options.out.parent)!r}; make it, or give another --out")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _report(options: argparse.Namespace) -> int:
    seeds = None if options.seeds is None else parse_seeds(options.seeds)
    request = {"scale": options.scale, "seeds": seeds, "minutes": options.minutes}
    request |= {"workers": options.workers, "each": in_processes(options.workers), "say": _say}
    own = audit(load(options.method), **request)
    others = beside(options.scale, _say)
    if not others and options.scale == "tiny":
        _say("No framework is recorded here, so the four are run as well.")
        others = frameworks(**request)
    if options.out is None:
        print(markdown(own, others))
        return 0
    text = page(own, others) if options.out.suffix == ".html" else markdown(own, others)
    write_atomically(options.out, text.encode())
    for sentence in findings(own):
        print(sentence)
    print(f"The report is in {options.out}.")
    return 0
