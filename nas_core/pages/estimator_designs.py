"""What the conditioned estimator should evaluate in a batch, and when measuring may stop (Section 5.1).

Readings and names are those of :mod:`nas_core.pages.estimator_pages`. Letters in shapes: s seeds, T = 2 states of θ, D designs, E edges,
K operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from nas_core.estimation import STATES
from nas_core.estimators import best_split
from nas_core.pages import estimator_pages as page
from nas_core.pages import style, summary
from nas_core.pages.claims import number, unbroken
from nas_core.pages.estimator_pages import (
    CONDITIONED,
    PARTS,
    SAMPLED,
    STATE_WORDS,
    gain_words,
    over_entries,
    state_rows,
)
from nas_core.pages.evidence import percent, with_interval
from nas_core.pages.tables import markdown
from nas_core.space import NONE, OPERATIONS

DIALS = {"nodes": "first nodes a batch", "between": "operations at each node", "direct": "rounds of direct edges"}
_BESIDE = {"nodes": 0, "between": -1, "direct": 1}
"""On which side of the number of first nodes the marks of a dial stand."""
_LOOKS = {"nodes": ("#222222", "-", "o"), "between": ("#aa3377", "", "s"), "direct": ("#4477aa", "", "^")}


# --- designs ----------------------------------------------------------------------------------------------------------


def designs(run) -> list[dict]:
    """The designs that a run compared: ``nodes``, ``between`` (None: all) and ``direct`` of each."""
    return run.meta["config"]["designs"]


def dial(design: Mapping, usual: Mapping) -> str:
    """The dial by which a design differs from the usual one; "" for that one itself."""
    return next((name for name in DIALS if design[name] != usual[name]), "")


def setting(design: Mapping, name: str) -> str:
    """``16``, or ``all`` where a design sets no bound."""
    return "all" if design[name] is None else str(design[name])


def evaluations(run, design: Mapping) -> int:
    """How many operations of the edge between a batch evaluates, over all its first nodes."""
    cell = summary.cell_of(run)
    between = next(e for e in cell.incoming(cell.intermediate[1]) if cell.edge_class(e) == "intermediate")
    costly = len(set(cell.edges[between].operations) - {"none", "skip_connect"})
    return design["nodes"] * min(design["between"] or costly, costly)


def usual(run) -> int:
    """The place of the page's own design."""
    return designs(run).index(run.meta["config"]["conditioned"])


def times(results: Sequence) -> np.ndarray:
    """``[s, T, D]``: the time to the same standard error, in units of that of the page's own design; batches count as independent."""
    found = []
    for run in results:
        share = run.arrays["design_variance"] / np.maximum(run.arrays["design_count"], 1)
        price = over_entries(share, run) * run.arrays["design_seconds"]
        found.append(price / price[:, [usual(run)]])
    return np.array(found)


def best_nodes(run, state: int) -> float:
    """n* of Section 5.1 in first nodes with one operation each; a batch's time is a straight line in what it evaluates."""
    arrays = run.arrays
    line = [
        place
        for place, own in enumerate(designs(run))
        if dial(own, designs(run)[usual(run)]) in ("", "nodes", "between")
    ]
    x = [evaluations(run, designs(run)[place]) for place in line]
    slope, shared = np.polyfit(x, (arrays["design_seconds"] / arrays["design_steps"])[state][line], 1)
    architecture, batch, interaction = over_entries(arrays["exact_shared"][state], run)
    if min(slope, shared, batch, architecture + interaction) <= 0:
        return np.nan
    return best_split(architecture + interaction, batch, slope, shared)


def splits(results: Sequence) -> str:
    """Where the variance comes from, and what follows for the number of architectures a batch."""

    def rows(state: int) -> list[list[str]]:
        shares = np.array([_shares(run)[state] for run in results])
        best = np.array([best_nodes(run, state) for run in results])
        alone = [page.independent_prices(results, name)[:, state] for name in (SAMPLED, CONDITIONED)]
        cancels = 1 - page.prices(results, CONDITIONED)[:, state] / alone[1]
        words = [*(with_interval(shares[:, part]) for part in range(3)), with_interval(best), with_interval(cancels)]
        return [[*words, gain_words(alone[0] / alone[1])]]

    header = ["θ", *(f"share of the {part}" for part in PARTS), "best number of first nodes a batch"]
    header += ["share of the variance that cancels over a pass", "gain if batches were independent"]
    return markdown(header, state_rows(rows), text=1)


def _shares(run) -> np.ndarray:
    """``[T, 3]``: shares of the variance components of a probe, summed over entries."""
    parts = over_entries(run.arrays["exact_single"], run)
    return parts / parts.sum(-1, keepdims=True)


@style.styled
def time_by_design(results: Sequence) -> Figure:
    """The time to the same standard error by design, one panel a state of θ: a line over the number of first nodes, marks beside it for
    the other two dials, and the number that the formula asks for."""
    figure = style.new_figure(3.7)
    row = figure.subplots(1, len(STATES), sharey=True)
    logs, first = np.log(times(results)), results[0]
    own = designs(first)
    for state, axes in enumerate(row):
        mean, low, high = (np.exp(part) for part in summary.band(logs[:, state]))
        for name, (colour, line, marker) in _LOOKS.items():
            places = [p for p, d in enumerate(own) if dial(d, own[usual(first)]) in ((name, "") if line else (name,))]
            beside = 1.14 ** (_BESIDE[name] * np.arange(1, len(places) + 1))
            x = np.array([own[place]["nodes"] for place in places]) * beside
            axes.plot(x, mean[places], linestyle=line, marker=marker, color=colour, label=DIALS[name], markersize=5.5)
            known = np.isfinite(low[places])
            axes.vlines(x[known], low[places][known], high[places][known], color=colour, linewidth=1.2)
            for at, place in zip(x, places, strict=True) if not line else ():
                axes.annotate(setting(own[place], name), (at, max(mean[place], np.nan_to_num(high[place]))), xytext=(0, 3), textcoords="offset points",
                              ha="center", color=colour, fontsize=style.SMALL)  # fmt: skip
        _mark_best(axes, np.array([best_nodes(run, state) for run in results]))
        axes.set_xscale("log", base=2), axes.set_yscale("log", base=2)
        axes.axhline(1, color="#666666", linewidth=0.9, linestyle=(0, (1, 2)))
        nodes = sorted({design["nodes"] for design in own})
        axes.set_xticks(nodes, [str(count) for count in nodes])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        style.tidy(axes, x="first nodes a batch", title=STATE_WORDS[STATES[state]])
    row[0].set_ylabel("time to the same standard error")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.set_label(f"Time to the same standard error by design of the estimator. {design_words(results)}")
    return figure


def _mark_best(axes, best: np.ndarray) -> None:
    mean, low, high = summary.interval(best)
    if np.isfinite(mean):
        axes.axvline(mean, color="#228833", linewidth=1.4, linestyle="--", label="n*")
    if np.isfinite(low):
        axes.axvspan(max(low, 1), high, color="#228833", alpha=0.12, linewidth=0)


def design_words(results: Sequence) -> str:
    """Which of the designs was the fastest, and what the formula asks for, a sentence a state."""
    own, sentences = designs(results[0]), []
    base = own[usual(results[0])]
    for state, name in enumerate(STATES):
        logs = np.log(times(results)[:, state])
        best = int(logs.mean(axis=0).argmin())
        formula = np.array([best_nodes(run, state) for run in results])
        changed = dial(own[best], base)
        slowest = float(np.exp(logs.mean(axis=0).max()))
        which = "that of this page"
        if changed:
            gain = gain_words(np.exp(logs[:, best]))
            which = f"the one with {setting(own[best], changed)} {DIALS[changed]}, at {gain} times the time of that of this page"
        sentences.append(
            f"{STATE_WORDS[name].capitalize()} the fastest design is {which}; the slowest takes {number(slowest)} times as long as that "
            f"of this page. The formula asks for {with_interval(formula)} first nodes."
        )
    return unbroken(" ".join(sentences))


# --- signs ------------------------------------------------------------------------------------------------------------


def batches_for_signs(results: Sequence, name: str) -> np.ndarray:
    """``[T, E, K]``: the median number of batches until a sign is known, NaN where at least half of the runs never knew it."""
    steps = np.array([run.arrays[f"{name}_signs"] for run in results], dtype=float)
    median = np.median(np.where(np.isnan(steps), np.inf, steps), axis=0)
    return np.where(np.isfinite(median), median, np.nan)


@style.styled
def signs_map(results: Sequence) -> Figure:
    """Batches until the sign of every entry was known, sampled (above) and conditioned, one column a state of θ."""
    cell = summary.cell_of(results[0])
    shown = [k for k in range(len(OPERATIONS)) if k != NONE]
    maps = {name: batches_for_signs(results, name)[..., shown] for name in (SAMPLED, CONDITIONED)}
    known = np.concatenate([own[np.isfinite(own)] for own in maps.values()])
    least, most = (known.min(), known.max()) if len(known) else (1.0, 1.0)
    figure = style.new_figure(0.6 * len(cell.edges) + 2.4)
    grid = figure.subplots(len(maps), len(STATES), sharex=True, sharey=True)
    norm, spoken = LogNorm(least, max(most, 2 * least)), []
    for row, (name, own) in zip(grid, maps.items(), strict=True):
        for state, axes in enumerate(row):
            image = axes.imshow(np.ma.masked_invalid(own[state]), cmap="cividis_r", norm=norm, aspect="auto")
            for edge, k in np.ndindex(own[state].shape):
                steps = own[state, edge, k]
                text = "" if not page.wanted(results[0])[edge, shown[k]] else "–" if np.isnan(steps) else f"{steps:.0f}"
                dark = np.isfinite(steps) and norm(steps) > 0.5
                axes.text(
                    k, edge, text, ha="center", va="center", fontsize=style.SMALL, color="white" if dark else "black"
                )
            axes.set_title(f"{name}, {STATE_WORDS[STATES[state]]}", loc="left")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            count = int(np.isfinite(own[state]).sum())
            middle = f", half of them after {np.nanmedian(own[state]):.0f} batches or fewer" if count else ""
            spoken.append(
                f"{name}, {STATE_WORDS[STATES[state]]}: {count} of {int(page.wanted(results[0]).sum())} signs{middle}"
            )
    grid[0, 0].set_yticks(range(len(cell.edges)), [summary.edge_name(cell, edge) for edge in range(len(cell.edges))])
    for axes in grid[-1]:
        axes.set_xticks(
            range(len(shown)), [OPERATIONS[k] for k in shown], rotation=35, ha="right", rotation_mode="anchor"
        )
    figure.colorbar(image, ax=list(grid.ravel()), label="batches", pad=0.015, aspect=25)
    figure.set_label(f"Batches until the sign of an entry was known in most runs. {'; '.join(spoken)}.")
    return figure


def adaptive_table(results: Sequence) -> str:
    """The adaptive run of the conditioned estimator: batches, time saved against the fixed passes, and how the signs ended."""

    def rows(state: int) -> list[list[str]]:
        found = _ended(results, state)
        # What each column can be: batches, a share that is negative where time was lost, and three counts of signs.
        limits = [(0, _cap(results[0])), (-np.inf, 1), *[(0, page.wanted(results[0]).sum())] * 3]
        return [[with_interval(column, within=own) for column, own in zip(found.T, limits, strict=True)]]

    own = results[0].meta["config"]
    header = ["θ", f"batches, of {_cap(results[0])}", "share of the time saved", "signs known"]
    header += [f"shown below {percent(own['negligible'])} of the table's size", "open"]
    return markdown(header, state_rows(rows), text=1)


def _ended(results: Sequence, state: int) -> np.ndarray:
    """``[s, 5]``: batches, share of the time saved, and signs known, shown small and open, of every adaptive run."""
    return np.array([_adaptive(run, state) for run in results], dtype=float)


def adaptive_words(results: Sequence) -> str:
    """Whether the falsifier of stopping early has come true, a sentence a state: every run at its cap with signs open."""
    cap, sentences = _cap(results[0]), []
    for state, name in enumerate(STATES):
        steps, saved, _, _, still = _ended(results, state).T
        stuck = int(((steps >= cap) & (still > 0)).sum())
        time = f"share of the time saved {with_interval(saved)}"
        if stuck == 0:
            said = f"no run reached its cap of {cap} batches with signs open: stopping early did not fail ({time})"
        elif stuck == len(steps):
            said = (
                f"the falsifier has come true: every run reached its cap of {cap} batches with signs open, {number(still.mean())} on "
                f"average, and stopping early saved nothing ({time})"
            )
        else:
            said = (
                f"the falsifier has come true in {stuck} of {len(steps)} runs, which reached their cap of {cap} batches with signs "
                f"open ({time} over all runs)"
            )
        sentences.append(f"{STATE_WORDS[name].capitalize()} {said}.")
    return unbroken(" ".join(sentences))


def _cap(run) -> int:
    config = run.meta["config"]
    return int(config["repeats"] * config["passes"] * run.arrays["steps_per_pass"])


def _adaptive(run, state: int) -> tuple[float, ...]:
    arrays, own = run.arrays, page.wanted(run)
    known = np.isfinite(arrays["adaptive_signs"][state][own])
    small = arrays["adaptive_small"][state][own].astype(bool) & ~known
    saved = 1 - arrays["adaptive_seconds"][state] / (_cap(run) * page.milliseconds(run, CONDITIONED, state) / 1000)
    return float(arrays["adaptive_steps"][state]), float(saved), known.sum(), small.sum(), (~known & ~small).sum()
