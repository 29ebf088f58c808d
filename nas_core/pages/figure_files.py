"""A figure's data to download: CSV and JSON with their provenance, and the links to both below the figure."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from matplotlib.figure import Figure

from nas_core.pages import summary
from nas_core.pages.figure_data import COLUMNS, Panel, Table, plain, read


def origin(results: Sequence | Mapping[str, Sequence] | None) -> dict:
    """Where the numbers come from, as data: every value that the runs have, once. Empty without recorded runs."""
    if results is None:
        return {}
    metas = [run.meta for run in summary.flat(results)]

    def each(values: Iterable) -> list:
        return list(dict.fromkeys(values))

    return {
        "recipe": each(meta.get("recipe") or "none" for meta in metas),
        "scale": each(meta.get("scale") or "none" for meta in metas),
        "seeds": sorted({meta["seed"] for meta in metas}),
        "dataset": each(meta["dataset"]["name"] for meta in metas),
        "dataset_sha256": each(own for meta in metas if (own := meta["dataset"].get("sha256"))),
        "configuration": each(meta["ident"] for meta in metas),
        "code": each(meta["code"] for meta in metas),
        "torch": each(f"{meta['torch']} on {meta['device']}" for meta in metas),
    }


def as_json(table: Table, description: str = "", source: Mapping | None = None, note: str = "") -> str:
    """The table with its panels and provenance; equal tables give equal text, a line a row."""
    head = {
        "description": description,
        "note": note,
        "provenance": dict(source or {}),
        "panels": [asdict(panel) for panel in table.panels],
        "columns": list(COLUMNS),
    }
    lines = [f'"{key}": {_compact(value)}' for key, value in head.items()]
    rows = ",\n".join(_compact([getattr(row, name) for name in COLUMNS]) for row in table.rows)
    return "{\n" + ",\n".join(lines) + f',\n"rows": [\n{rows}\n]\n}}\n'


def as_csv(table: Table, description: str = "", source: Mapping | None = None, note: str = "") -> str:
    """The table with its provenance and panels as comments (lines that begin with ``#``) above the header."""
    comments = [description, note]
    comments += [f"{key}: {', '.join(map(str, values))}" for key, values in (source or {}).items()]
    comments += [f"panel {own.number}: {_panel_words(own)}" for own in table.panels]
    stream = io.StringIO()
    stream.writelines(f"# {plain(words)}\n" for words in comments if words)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, name) for name in COLUMNS] for row in table.rows)
    return stream.getvalue()


def links(
    figure: Figure, results: Sequence | Mapping[str, Sequence] | None = None, *, description: str = "", note: str = ""
) -> str:
    """:func:`table_links` to a figure's data; empty where nothing can be read."""
    return table_links(read(figure), results, description=description, note=note)


def table_links(
    table: Table, results: Sequence | Mapping[str, Sequence] | None = None, *, description: str = "", note: str = ""
) -> str:
    """Two links to the data, which travels in them.

    In a notebook they work as they are; the book's extension moves the data to files beside the page, which stays light.
    """
    if not table.rows:
        return ""
    source = origin(results)
    words = [
        f'<a class="figure-data-file" download="figure.{ending}" href="data:{kind};charset=utf-8;base64,{_base64(text)}">'
        f"{ending.upper()}</a>"
        for ending, kind, text in (
            ("csv", "text/csv", as_csv(table, description, source, note)),
            ("json", "application/json", as_json(table, description, source, note)),
        )
    ]
    return f'<p class="figure-data"><small>Data: {" · ".join(words)}</small></p>'


def _panel_words(panel: Panel) -> str:
    named = {"title": panel.title, "x": panel.x, "y": panel.y, "value": panel.value}
    return "; ".join(f"{key} = {words}" for key, words in named.items() if words)


def _compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
