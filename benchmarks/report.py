"""From results to Markdown: pure functions of the recorded numbers."""

from __future__ import annotations

import math
from statistics import median, quantiles

import numpy as np
from scipy import stats

from benchmarks import table
from benchmarks.launches import ON_CPU
from benchmarks.roofline import Machine, Work
from benchmarks.workloads import ENGINE, KINDS, PLAIN, PUBLISHED, PUBLISHED_IS_PLAIN, SAMPLED, Workload

BEGIN, END = "<!-- begin: written by python -m benchmarks -->", "<!-- end -->"
COLUMNS = (PLAIN, SAMPLED, PUBLISHED)
STATE_WORDS = {"initial": "at initialisation", "trained": "after {} steps"}
HEADINGS = {PLAIN: "plain", SAMPLED: "plain, sampled only", PUBLISHED: "as published"}


def ratios(comparison: dict) -> tuple[float, float, float, int] | None:
    """How many times the engine's seconds the other side takes: median and quartiles of the ratios of single pairs, and
    the number of pairs; None where one of the two was not measured."""
    engine, other = (comparison[side].get("seconds") for side in ("engine", "other"))
    if not engine or not other:
        return None
    paired = [slow / fast for fast, slow in zip(engine, other)]
    low, middle, high = quantiles(paired, n=4, method="inclusive") if len(paired) > 1 else paired * 3
    return middle, low, high, len(paired)


def engine_seconds(comparisons: dict) -> list[float]:
    """All of the engine's times of a workload, over the sides that it was compared with."""
    return [second for own in comparisons.values() for second in own["engine"].get("seconds", [])]


def engine_peak(comparisons: dict) -> int | None:
    """The largest peak of the engine in a workload."""
    return max((own["engine"]["peak"] for own in comparisons.values() if "peak" in own["engine"]), default=None)


# -- cells of tables -------------------------------------------------------------------------------------------------------


SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit: no line breaks there."""


def seconds(value: float) -> str:
    """A time, in ms below a second."""
    return f"{value:.3g}{SPACE}s" if value >= 1 else f"{1000 * value:.3g}{SPACE}ms"


def size(value: float) -> str:
    """Bytes in MB or GB, powers of ten."""
    return f"{value / 1e9:.3g}{SPACE}GB" if value >= 1e9 else f"{value / 1e6:.3g}{SPACE}MB"


def _times(value: float) -> str:
    return f"{value:.3g}×"


def _bracket(low: float, high: float) -> str:
    return f"[{low:.3g},{SPACE}{high:.3g}]"


def _table(heading: list[str], body: list[list[str]]) -> str:
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _sides(name: str, entry: dict, cell) -> list[str]:
    """One cell a column: what ``cell`` makes of the comparison, or why there is none."""
    kind, comparisons = entry["workload"]["kind"], entry["sides"]
    cells = []
    for column in COLUMNS:
        if column in comparisons:
            cells.append(_absent(comparisons[column]) or cell(comparisons[column]))
        else:
            cells.append(_no_side(column, kind))
    return cells


def _no_side(column: str, kind: str) -> str:
    """What stands for a side that a kind of step does not have."""
    return "as plain" if column == PUBLISHED and kind in PUBLISHED_IS_PLAIN else "–"


def _absent(comparison: dict) -> str:
    other = comparison["other"]
    if "kept" in other:
        return f"does not fit: its graph alone keeps {size(other['kept'])}, {size(other['available'])} were free"
    return f"failed: {other['failed']}" if "failed" in other else ""


def _time_cell(comparison: dict) -> str:
    own = seconds(median(comparison["other"]["seconds"]))
    found = ratios(comparison)
    if found is None:
        return own
    ratio, low, high, pairs = found
    mark = "" if comparison["alternating"] else ", one after the other"
    return f"{own}: **{_times(ratio)}** {_bracket(low, high)}, n{SPACE}={SPACE}{pairs}{mark}"


def _memory_cell(comparison: dict) -> str:
    own, engine = comparison["other"]["peak"], comparison["engine"].get("peak")
    return size(own) + (f": **{_times(own / engine)}**" if engine else "")


# -- tables --------------------------------------------------------------------------------------------------------------


def _label(name: str, entry: dict) -> str:
    workload = Workload(**entry["workload"])
    halves = ", reduction" if workload.reduction else ""
    return f"`{name}`: {workload.cells} × {workload.nodes}, batch {workload.batch}{halves}"


def _side_table(workloads: dict, engine, cell) -> str:
    heading = ["step", "engine", *(HEADINGS[column] for column in COLUMNS)]
    body = []
    for name, entry in workloads.items():
        body.append([_label(name, entry), engine(entry["sides"]), *_sides(name, entry, cell)])
    return _table(heading, body)


def _engine_time(comparisons: dict) -> str:
    own = engine_seconds(comparisons)
    return seconds(median(own)) if own else _engine_failure(comparisons)


def _engine_memory(comparisons: dict) -> str:
    own = engine_peak(comparisons)
    return _engine_failure(comparisons) if own is None else size(own)


def _engine_failure(comparisons: dict) -> str:
    return "failed: " + next(own["engine"]["failed"] for own in comparisons.values() if "failed" in own["engine"])


_TIME_WORDS = (
    "`1 × 2` is one cell of two nodes. A cell of the table holds the other side's median time; in bold how many times the engine's "
    "that is, as the median over pairs of steps; in brackets the quartiles over these pairs; and n, the number of pairs."
)


def _roofline(workloads: dict, machine: Machine) -> str:
    """What the machine could do. A copy within the cache that was slower than one in memory was disturbed: it is no bound."""
    body = []
    cache_known = machine.cache >= machine.memory
    for name, entry in workloads.items():
        work = Work(**entry["least"])
        least, cached = machine.least_seconds(work), machine.least_seconds_cached(work)
        bound = "memory" if work.bytes / machine.memory > work.operations / machine.matrix else "arithmetic"
        own = engine_seconds(entry["sides"])
        share = f"{100 * least / median(own):.2g}{SPACE}%" if own else "–"
        work_cells = [f"{work.operations / 1e9:.3g}", f"{work.bytes / 1e9:.3g}"]
        body.append(
            [f"`{name}`", *work_cells, seconds(least), bound, share, *([seconds(cached)] if cache_known else [])]
        )
    heading = ["step", "10⁹ operations", "GB", "least time", "bound by", "share reached"]
    within = ""
    if cache_known:
        heading.append("least time from cache")
        within = f" and {machine.cache / 1e9:.3g}{SPACE}GB/s within its last-level cache of {machine.cache_size >> 20}{SPACE}MiB"
    words = (
        f"This machine copies {machine.memory / 1e9:.3g}{SPACE}GB/s in memory{within} (read and written), and multiplies float32 "
        f"matrices at {machine.matrix / 1e9:.3g} · 10⁹ operations/s."
    )
    if not cache_known:
        words += (
            " The copy within the last-level cache came out slower than that in memory, so it was disturbed; it is left out, and with "
            "it the least time from the cache."
        )
    return f"{words}\n\n{_table(heading, body)}"


def _launches(found: dict) -> str:
    body = []
    for name, own in found.items():
        kind, kernels = own["workload"]["kind"], own["kernels"]
        counts = {side: f"{count:.0f}" for side, count in kernels.items()}
        sides = [counts.get(side, _no_side(side, kind)) for side in (ENGINE, *COLUMNS, ON_CPU)]
        body.append([_label(name, own), *sides])
    words = (
        "What a step asks an accelerator for, counted without one: operations that compute, from the images to the gradients, on average "
        "over samples. A card that ends each before the next is asked for is bound by this number. There `nas_core` evaluates module by "
        "module; the last column is what its engine would ask for."
    )
    heading = ["step", "`nas_core`", *(HEADINGS[column] for column in COLUMNS), ON_CPU]
    return f"{words}\n\n{_table(heading, body)}"


def _equal_error(found: dict) -> str:
    """What a table of costs takes to equal error, by the state of θ."""
    body = []
    for state, ways in found["states"].items():
        own = [seconds(median(ways[way]["seconds"])) for way in (table.PUBLISHED, table.SAMPLED, table.CONDITIONED)]
        gained = [_interval(table.gains(found, state, way)) for way in (table.SAMPLED, table.CONDITIONED)]
        body.append([STATE_WORDS[state].format(found["steps"]), *own, *gained])
    heading = ["θ", "published step", "engine's step", "conditioned pass", "sampled by the engine", "conditioned"]
    words = (
        f"All 35 entries of the minimal cell's table, {found['channels']} channels, batches of {found['batch']} from "
        f"{found['data']} at {found['size']} × {found['size']} pixels. The last two columns say how many times less time "
        f"than the published sampling a way takes to the same mean square error: geometric mean over {found['repeats']} "
        f"seeds and its 95 % interval."
    )
    return f"{words}\n\n{_table(heading, body)}"


def _interval(values: list[float]) -> str:
    """The geometric mean and Student's interval of it."""
    logs = np.log(values)
    spread = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    middle, low, high = (float(np.exp(logs.mean() + shift)) for shift in (0, -spread, spread))
    return f"**{_times(middle)}** {_bracket(low, high)}"


def _seeds(found: dict) -> str:
    """How several seeds use the cores best."""
    body = []
    for name, rates in found["rates"].items():
        own = Workload(**found["workloads"][name])
        label = (
            f"{name}: {own.cells} × {own.nodes}, {own.channels} channels, {own.size} × {own.size}, batch {own.batch}"
        )
        cells = [f"failed: {rates['failed']}", "–", "–"] if "failed" in rates else [
            f"{rates['processes']:.3g}", f"{rates['threads']:.3g}", f"**{_times(rates['processes'] / rates['threads'])}**",
        ]  # fmt: skip
        body.append([label, *cells])
    cores = found["cores"]
    heading = ["θ step", f"{cores} processes of 1 thread, steps/s", f"1 process of {cores} threads, steps/s", "ratio"]
    return f"Several seeds as processes beside each other, or one after the other with all threads.\n\n{_table(heading, body)}"


def _startup(found: dict) -> str:
    if "failed" in found:
        return f"The library could not be imported: {found['failed']}."
    words = (
        f"`import nas_core.search` takes {seconds(found['library'])} beyond the {seconds(found['torch'])} of "
        f"`import torch` (medians of {found['n']} processes)."
    )
    if "read_failed" in found:
        return f"{words} Recorded results were not read: {found['read_failed']}."
    return (
        f"{words} A chapter that reads {found['results']:.0f} recorded results has imported all it needs after "
        f"{seconds(found['read_import'])} and has read them after {seconds(found['read'])} more."
    )


def _scaling(found: dict) -> str:
    base = Workload(**found["base"])
    body = []
    for name, points in found["curves"].items():
        for point in points:
            body.append([f"{name} = {point['value']}", *_point_cells(point)])
    words = (
        f"{_sentence(KINDS[base.kind].words)}, with everything but one size as in the first point of its kind: "
        f"{base.cells} × {base.nodes}, {base.channels} channels, {base.size} × {base.size} pixels, batch {base.batch}."
    )
    return f"{words}\n\n{_table(['size', 'time a step', 'peak memory'], body)}\n\n{_deep(found)}"


def _deep(found: dict) -> str:
    deep, point = Workload(**found["deep"]["workload"]), found["deep"]
    what = f"{deep.cells} cells of {deep.nodes} nodes at batch {deep.batch} without reduction"
    if "failed" in point:
        return f"{what}: failed, {point['failed']}."
    verdict = "within" if point["peak"] <= found["limit"] else "beyond"
    return (
        f"{what}: {seconds(point['seconds'])} a step and a peak of {size(point['peak'])}, "
        f"{verdict} the {size(found['limit'])} that it may take."
    )


def _point_cells(point: dict) -> list[str]:
    return (
        [f"failed: {point['failed']}", "–"] if "failed" in point else [seconds(point["seconds"]), size(point["peak"])]
    )


def _soak(found: dict) -> str:
    if "failed" in found:
        return f"The soak failed: {found['failed']}."
    return (
        f"Over {found['steps']} tiny steps in one process, memory went from {size(found['resident'][0])} after step "
        f"{found['chunk']} to {size(found['resident'][-1])} at the end: {found['growth'] / 1e6:+.3g}{SPACE}MB."
    )


def _chapters(found: dict) -> str:
    body = []
    for name, own in found["chapters"].items():
        if "failed" in own:
            body.append([f"`{name}`", f"failed: {own['failed']}", "–"])
        else:
            body.append([f"`{name}`", f"{own['results'] or '–'}", seconds(own["seconds"])])
    times = [own.get("seconds", math.inf) for own in found["chapters"].values()]
    within = sum(time <= found["limit"] for time in times)
    words = (
        f"`papermill book/CHAPTER.ipynb out.ipynb -p scale tiny` with no recorded result to read, one chapter after the "
        f"other: {within} of {len(times)} within the {seconds(found['limit'])} that a chapter may take."
    )
    return f"{words}\n\n{_table(['chapter', 'results computed', 'time'], body)}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _provenance(found: dict) -> str:
    cut = " **A quick run on tiny sizes: it shows that the script works, nothing more.**" if found["quick"] else ""
    return (
        f"Measured {found['date']} on {found['cpu']}, {found['threads']} of {found['cores']} cores, "
        f"{size(found['memory']) if found['memory'] else 'unknown'} of memory, Python {found['python']}, "
        f"PyTorch {found['torch']}; code {found['code']}.{cut}"
    )


def render(results: dict) -> str:
    """The Markdown of everything in ``results``, section by section; those that were not measured are left out."""
    parts = [_provenance(results["provenance"])]
    if workloads := results.get("workloads"):
        parts += ["### Time a step", _TIME_WORDS, _side_table(workloads, _engine_time, _time_cell)]
        parts += ["### Peak memory", _side_table(workloads, _engine_memory, _memory_cell)]
        parts += ["### Roofline", _roofline(workloads, Machine(**results["machine"]))]
    for name, heading, section in (
        ("launches", "### Kernels a step", _launches),
        ("table", "### A table of costs, to equal error", _equal_error),
        ("seeds", "### Processes or threads", _seeds),
        ("scaling", "### Scaling", _scaling),
        ("soak", "### Soak", _soak),
        ("startup", "### Start-up", _startup),
        ("chapters", "### Chapters from nothing", _chapters),
    ):
        if name in results:
            parts += [heading, section(results[name])]
    return "\n\n".join(parts) + "\n"


def insert(page: str, table: str) -> str:
    """``page`` with ``table`` between the markers. Raises ``ValueError`` for a page without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table; write the lines {BEGIN} and {END} into it")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"
