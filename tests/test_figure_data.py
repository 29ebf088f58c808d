"""A figure's table says what the figure shows, in files that stay the same."""

import base64
import csv
import io
import json
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from nas_core.pages import (
    assignment,
    assignment_drawings,
    drawing,
    figure_data,
    figure_files,
    figures,
    player,
    style,
    summary,
)
from nas_core.pages.style import Pen
from nas_core.space import OPERATIONS
from tests import synthetic


def new_axes():
    figure = Figure()
    figure.set_label("a figure")
    return figure, figure.subplots()


def table_of(text: str) -> list[dict]:
    return list(csv.DictReader(line for line in io.StringIO(text) if not line.startswith("#")))


def test_curve_carries_its_band_its_label_and_no_zero_line():
    figure, axes = new_axes()
    values = np.array([[1.0, 2.0, 3.0], [1.5, 2.5, 2.0], [0.5, 3.5, 4.0]])
    for shift, line in ((0, "-"), (0.1, "--")):  # two curves of one colour, as on both sets of images
        style.curve(axes, np.arange(3), values + shift, Pen("#332288", line, label=f"shifted by {shift}"))
    style.zero_line(axes)
    style.tidy(axes, x="epoch", y="loss (nats)", title="a panel")
    table = figure_data.read(figure)
    assert table.panels == (figure_data.Panel(1, "a panel", "epoch", "loss (nats)", ""),)
    assert [row.series for row in table.rows] == ["shifted by 0"] * 3 + ["shifted by 0.1"] * 3
    mean, low, high = summary.band(values)
    for shift, rows in ((0, table.rows[:3]), (0.1, table.rows[3:])):
        assert [row.x for row in rows] == [0, 1, 2]
        for found, wanted in (("y", mean), ("low", low), ("high", high)):
            assert [getattr(row, found) for row in rows] == pytest.approx(wanted + shift, rel=1e-7)


def test_edges_are_named_by_the_words_of_their_colour():
    runs = synthetic.runs(3)
    table = figure_data.read(figures.cost_per_edge(runs))
    cell = summary.cell_of(runs[0])
    epochs, cost = summary.edge_cost(runs, "search")
    assert {row.series for row in table.rows} == {summary.edge_name(cell, edge) for edge in range(len(cell.edges))}
    for edge in range(len(cell.edges)):
        rows = [row for row in table.rows if row.series == summary.edge_name(cell, edge)]
        assert [row.x for row in rows] == list(epochs)
        assert [row.y for row in rows] == pytest.approx(cost[..., edge].mean(axis=0), rel=1e-7)


def test_operations_are_named_by_the_legend_of_the_figure():
    table = figure_data.read(figures.probability(synthetic.runs(2)))
    assert {row.series for row in table.rows} <= set(style.OPERATION_COLOURS)
    assert len(table.panels) == 5 and {panel.x for panel in table.panels} == {"epoch"}
    assert {panel.y for panel in table.panels} == {"P(operation)"}


def test_map_has_values_words_of_the_axes_marks_and_the_unit_of_the_colour_bar():
    runs = synthetic.runs(3)
    table = figure_data.read(figures.heat_map(runs))
    assert table.panels[0].value.startswith("cost in 10")
    assert len(table.rows) == 5 * 8
    row = next(row for row in table.rows if (row.x_name, row.y) == ("sep_conv_3x3", 2))
    assert row.y_name == f"{summary.edge_name(summary.cell_of(runs[0]), 2)} ●"
    assert f"{row.value:.2f}".replace("-", "−") == row.mark.split()[0].strip("()") and "±" in row.mark


def test_maps_keep_their_extent_frames_and_categories():
    figure, axes = new_axes()
    axes.imshow([[1.0, np.nan], [3.0, 4.0]], extent=(-0.5, 19.5, 1.5, -0.5), aspect="auto")
    axes.add_patch(matplotlib.patches.Rectangle((-0.4, 0.6), 9.8, 0.8, fill=False))
    rows = figure_data.read(figure).rows
    assert [(row.x, row.y, row.value, row.mark) for row in rows] == [
        (4.5, 0, 1, None), (14.5, 0, None, None), (4.5, 1, 3, "framed"), (14.5, 1, 4, None),
    ]  # fmt: skip
    figure, axes = new_axes()
    axes.imshow(np.array([[(1.0, 1, 1), matplotlib.colors.to_rgb(style.OPERATION_COLOURS["skip_connect"])]]))
    figure.legend(handles=style.operation_handles(["none", "skip_connect"]))
    assert [row.mark for row in figure_data.read(figure).rows] == [None, "skip_connect"]


def test_scatters_bars_intervals_and_spans():
    figure, axes = new_axes()
    axes.scatter([1, 2], [3, 4], c=[0.1, 0.2], label="dots")
    axes.plot([1, 2], [5, np.nan], linestyle="", marker="o", label="runs")
    axes.bar([0, 1], [2, 3], 0.5, bottom=1, label="stack")
    axes.barh([7], [2], label="lying")
    axes.vlines([1, 2], [0, 1], [2, 3], label="spread")
    axes.axvspan(0.25, 0.75, label="chance")
    axes.set_xticks([0, 1], ["a", "b"])
    found = {}
    for row in figure_data.read(figure).rows:
        found.setdefault((row.kind, row.series), []).append((row.x, row.x_name, row.y, row.low, row.high, row.value))
    assert found == {
        ("points", "dots"): [(1, "b", 3, None, None, 0.1), (2, None, 4, None, None, 0.2)],
        ("points", "runs"): [(1, "b", 5, None, None, None)],
        ("bar", "stack"): [(0, "a", None, 1, 3, None), (1, "b", None, 1, 4, None)],
        ("bar in x", "lying"): [(None, None, 7, 0, 2, None)],
        ("interval", "spread"): [(1, "b", None, 0, 2, None), (2, None, None, 1, 3, None)],
        ("span in x", "chance"): [(None, None, None, 0.25, 0.75, None)],
    }


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_both_files_hold_the_same_numbers(values):
    figure, axes = new_axes()
    axes.plot(values, label='a, "b"\nc')
    table = figure_data.read(figure)
    rows = table_of(figure_files.as_csv(table, "words\non two lines", {"seeds": [0, 1]}))
    record = json.loads(figure_files.as_json(table, source={"seeds": [0, 1]}))
    assert record["provenance"] == {"seeds": [0, 1]} and record["columns"] == list(rows[0])
    assert len(rows) == len(record["rows"]) == len(values)
    for row, own, value in zip(rows, record["rows"], values, strict=True):
        assert row["series"] == 'a, "b" c' and float(row["y"]) == own[record["columns"].index("y")]
        assert float(row["y"]) == pytest.approx(value, rel=1e-7)


def test_shown_figure_offers_its_data_with_provenance_and_equal_bytes():
    def files():
        runs = synthetic.runs(3)
        markup = figures.show(figures.accuracy(runs), runs)._repr_html_()
        return re.findall(r'download="figure\.(\w+)" href="data:[^,]*;base64,([^"]*)"', markup)

    (csv_name, csv_data), (json_name, json_data) = files()
    assert (csv_name, json_name) == ("csv", "json") and files() == [(csv_name, csv_data), (json_name, json_data)]
    text, record = base64.b64decode(csv_data).decode(), json.loads(base64.b64decode(json_data))
    meta = synthetic.runs(3)[0].meta
    assert record["provenance"]["recipe"] == [meta["recipe"]] and record["provenance"]["seeds"] == [0, 1, 2]
    assert f"# code: {meta['code']}\n" in text and "# seeds: 0, 1, 2\n" in text
    assert "95 % t-interval" in record["note"] and record["description"].startswith("Accuracy over epochs")


def test_drawing_offers_nothing():
    figure, axes = new_axes()
    axes.plot([0, 1], [0, 1])
    axes.set_axis_off()
    assert figure_data.read(figure) == figure_data.Table((), ())
    assert "figure-data" not in figures.show(figure)._repr_html_()


def test_wiring_over_time_offers_what_each_edge_favours():
    runs = synthetic.runs(2)
    table = figure_data.read(drawing.wiring_over_time(runs, epochs=[0, 20], seed=1))
    cell, p = summary.cell_of(runs[1]), runs[1].arrays["probability"][:, 0]
    assert table.panels == (figure_data.Panel(1, "seed 1", "epoch", "", "P(operation)"),)
    assert len(table.rows) == 2 * sum(len(edge.operations) for edge in cell.edges)
    for row in table.rows:
        edge = next(e for e in range(len(cell.edges)) if summary.edge_name(cell, e) == row.series)
        assert row.value == pytest.approx(p[int(row.x), edge, OPERATIONS.index(row.y_name)], rel=1e-6)
    favoured = [row for row in table.rows if row.mark and row.x == 20]
    assert [row.y_name for row in favoured] == [drawing.choice(own) for own in p[20]]


def test_player_offers_every_method_with_cost_and_probability():
    films = {name: [synthetic.result(kept=kept)] for name, kept in (("SNAS", 3), ("DSNAS", 1))}
    markup = player.show(films)._repr_html_()
    (text,) = re.findall(r'download="figure\.json" href="data:[^,]*;base64,([^"]*)"', markup)
    record = json.loads(base64.b64decode(text))
    assert [panel["title"] for panel in record["panels"]] == ["SNAS, seed 0", "DSNAS, seed 0"]
    assert record["provenance"]["seeds"] == [0] and record["note"].startswith("One run of each method")
    rows = [dict(zip(record["columns"], row, strict=True)) for row in record["rows"]]
    run = films["DSNAS"][0].arrays
    one = next(r for r in rows if (r["panel"], r["x"], r["y_name"]) == (2, 5, "sep_conv_3x3"))
    k = OPERATIONS.index("sep_conv_3x3")
    assert one["value"] == pytest.approx(run["probability"][5, 0, 0, k], rel=1e-6)
    assert one["y"] == pytest.approx(run["step_cost_mean"][4, -1, 0, k], rel=1e-6)
    assert all(r["y"] is None for r in rows if r["x"] == 0), "before the first step nothing has a cost"


def test_costs_of_two_cells_are_offered_with_their_sums():
    pair = assignment.case(0, cells=2).drawn(1, 0, assignment.feeding())[0]
    table = figure_data.read(assignment_drawings.two_cells(pair))
    assert [panel.title for panel in table.panels] == ["second-last cell", "last cell"]
    last = [row.value for row in table.rows if row.panel == 2]
    costs = (pair.z * pair.cost)[-1].sum(-1).tolist()
    assert last == pytest.approx([*costs, sum(costs)], rel=1e-6)


def test_pages_link_to_files_and_stay_light(html):
    for page in sorted(html.glob("*.html")):
        text = page.read_text(encoding="utf-8")
        assert "data:text/csv" not in text and "data:application/json" not in text, page.name
        for address in re.findall(r'class="figure-data-file"[^>]*href="([^"]+)"', text):
            file = html / address
            assert file.is_file(), address
            if file.suffix == ".json":
                rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
                assert len(rows) == len(table_of(file.with_suffix(".csv").read_text(encoding="utf-8"))) > 0
    assert len(list((html / "_data").rglob("*.csv"))) >= 20
