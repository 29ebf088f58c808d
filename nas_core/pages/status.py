"""The status page: every recorded result, grouped by configuration, with its state, origin and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from nas_core.lab.experiments import format_seeds
from nas_core.lab.recipes import RECIPES
from nas_core.lab.store import Record, State, Store, describe
from nas_core.pages import tables
from nas_core.pages.claims import number
from nas_core.pages.parameters import SCALES

HEADER = ["recipe", "scale", "data", "seeds", "state", "minutes a seed", "recorded"]
HEADER += ["configuration, and what it sets apart from the recipe"]


def groups(records: Iterable[Record]) -> dict[tuple, list[Record]]:
    """Readable records of one experiment, configuration and state together, in the order of recipe and scale."""
    found: dict[tuple, list[Record]] = {}
    for record in records:
        if record.state is not State.BROKEN:
            meta = record.meta
            key = (meta.get("recipe") or "", meta.get("scale") or "", meta["ident"], record.state.name)
            found.setdefault(key, []).append(record)
    return dict(sorted(found.items()))


def apart(meta: Mapping) -> str:
    """``images 200, epochs 52``: what a configuration sets otherwise than its recipe; empty where that is nothing, or cannot be
    said. The data's name has a column of its own."""
    recipe = RECIPES.get(meta.get("recipe") or "")
    if recipe is None or meta.get("scale") not in SCALES or "config" not in meta:
        return ""
    rows = tables.differences(meta["config"], describe(recipe(meta["scale"]))["config"])
    return ", ".join(
        f"{path.rpartition('.')[2].replace('_', ' ')} {tables.short(own, path)}"
        for path, own, _ in rows
        if path not in ("data.dataset", "data.sha256")
    )


def table(records: Iterable[Record] | None = None) -> str:
    """Markdown: one row a configuration. ``records`` are those of the book's own store unless given."""
    rows = []
    for (recipe, scale, ident, state), own in groups(Store().records() if records is None else records).items():
        metas = [record.meta for record in own]
        attested = any(meta.get("attested") for meta in metas)
        rows.append(
            [
                tables.code(recipe) if recipe else "own settings",
                scale or "–",
                ", ".join(dict.fromkeys((meta.get("dataset") or {}).get("name", "–") for meta in metas)),
                format_seeds(meta["seed"] for meta in metas),
                f"{state} (attested)" if attested else state,
                number(median(meta["seconds"] for meta in metas) / 60),
                max(str(meta["created"])[:10] for meta in metas).replace("-", "\N{NON-BREAKING HYPHEN}"),
                ": ".join(filter(None, (f"`{ident}`", apart(metas[0])))),
            ]
        )
    return tables.markdown(HEADER, rows)


def summary(records: Iterable[Record] | None = None) -> str:
    """One sentence: how many results there are, in which states, and how long they took together."""
    every = list(Store().records() if records is None else records)
    states = {state: sum(record.state is state for record in every) for state in State}
    words = ", ".join(f"{count} {state.name}" for state, count in states.items() if count)
    hours = sum(record.meta["seconds"] for record in every if record.meta) / 3600
    return (
        f"{len(every)} recorded results: {words or 'none'}. Together they took {number(hours)} hours, one thread a run."
    )
