"""Every figure draws for the cells and runs that there can be, says what it shows, and is the same bytes each time."""

import base64
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from nas_core import space
from nas_core.pages import drawing, figures, style, summary
from tests import synthetic


def _by_title(results):
    return {"bi-level": results, "single level": results}


FIGURES = {
    "cost, search": lambda runs: figures.cost_per_edge(runs),
    "cost, train": lambda runs: figures.cost_per_edge(_by_title(runs), "train"),
    "cost, held out": lambda runs: figures.cost_per_edge(runs, "held_out", cell=0),
    "loss, both": lambda runs: figures.loss_entropy_cost(runs),
    "loss, held out": lambda runs: figures.loss_entropy_cost(runs, "held_out"),
    "loss, split": lambda runs: figures.loss_entropy_cost(runs, ("train", "held_out"), ("correct", "wrong")),
    "probability": lambda runs: figures.probability(runs),
    "map": lambda runs: figures.heat_map(_by_title(runs)),
    "map, held out": lambda runs: figures.heat_map(runs, "held_out", evaluation=0),
    "survivors": lambda runs: figures.survivors(_by_title(runs)),
    "accuracy": lambda runs: figures.accuracy(_by_title(runs)),
    "gap": lambda runs: figures.cost_against_gap(_by_title(runs)),
    "wiring": lambda runs: drawing.wiring_over_time(runs),
    "cell": lambda runs: drawing.cell_drawing(summary.cell_of(runs[0])),
    "cell, likeliest": lambda runs: drawing.cell_drawing(
        summary.cell_of(runs[0]), runs[0].arrays["probability"][-1, 0]
    ),
}
RUNS = {
    "five seeds": lambda: synthetic.runs(5),
    "one seed": lambda: synthetic.runs(1),
    "no held-out set": lambda: synthetic.runs(3, held_out=False),
    "darts cell": lambda: synthetic.runs(2, cell=space.darts(4)),
    "single input": lambda: synthetic.runs(
        2, cell=space.modified().fix((0, 1), "sep_conv_3x3").without("none", (0, 2))
    ),
}


def words(figure) -> str:
    """All text in a figure, in order."""
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_says_what_it_shows_and_is_readable(name, kind, recwarn):
    figure = FIGURES[name](RUNS[kind]())
    markup = style.svg(figure)
    ElementTree.fromstring(markup)
    assert not recwarn.list, [str(warning.message) for warning in recwarn.list]
    assert len(figure.get_label()) > 40
    assert not re.search(r"\bnan\b", figure.get_label() + words(figure)), "a missing value is said in words"
    assert figure.get_figwidth() == style.WIDTH and figure.get_facecolor() == (1, 1, 1, 1)
    sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 9


@pytest.mark.parametrize("name", FIGURES)
def test_equal_results_give_equal_bytes_without_a_date(name):
    first, second = (style.svg(FIGURES[name](synthetic.runs(3))) for _ in range(2))
    assert first == second
    assert "<dc:date>" not in first


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    for name in ("cost, train", "map", "cell"):
        style.svg(FIGURES[name](synthetic.runs(2)))
    assert dict(matplotlib.rcParams) == before
    pyplot = __import__("sys").modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def is_zero_line(line) -> bool:
    return np.array_equal(np.asarray(line.get_ydata(), dtype=float), [0, 0])


@pytest.mark.parametrize("name", ["cost, search", "cost, train", "gap"])
def test_cost_axes_have_a_zero_line_in_view(name):
    for axes in FIGURES[name](synthetic.runs(3, train_cost=(3.0, 2.0), held_cost=(3.0, 2.0))).axes:
        assert any(is_zero_line(line) for line in axes.lines)
        assert axes.get_ylim()[0] <= 0 <= axes.get_ylim()[1]


def test_zero_line_under_loss_and_entropy_is_on_the_cost_alone():
    above, below = figures.loss_entropy_cost(synthetic.runs(3, train_cost=(3, 2), held_cost=(3, 2))).axes
    assert any(is_zero_line(line) for line in below.lines) and below.get_ylim()[0] <= 0
    assert not any(is_zero_line(line) for line in above.lines) and above.get_ylim()[0] >= 0


def curves(axes):
    return [line for line in axes.lines if not is_zero_line(line)]


def test_cost_per_edge_draws_the_mean_its_band_and_the_marker_of_the_edge_class():
    runs = synthetic.runs(5)
    (axes,) = figures.cost_per_edge(runs, "held_out").axes
    values = np.stack([run.arrays["edge_cost"][:, 1, -1] for run in runs])
    cell = space.minimal()
    assert len(curves(axes)) == len(axes.collections) == 5
    for edge, line in enumerate(curves(axes)):
        np.testing.assert_allclose(line.get_ydata(), values[..., edge].mean(axis=0))
        kind = cell.edge_class(edge)
        assert (line.get_marker(), line.get_linestyle()) == (style.EDGE_MARKERS[kind], style.EDGE_LINES[kind])
        vertices = axes.collections[edge].get_paths()[0].vertices
        top = max(y for x, y in vertices if x == runs[0].arrays["evaluated"][-1])
        assert top == pytest.approx(summary.interval(values[:, -1, edge])[2])
    for edge in range(5):
        assert any(text.get_text() == summary.edge_name(cell, edge) for text in axes.texts)


def test_cost_that_alpha_saw_weighs_operations_by_their_probability():
    run = synthetic.result(epochs=4)
    epochs, cost = summary.edge_cost([run], "search")
    probability, seen = run.arrays["probability"][:, 0], run.arrays["step_cost_mean"][:, -1]
    middle = (probability[:-1] + probability[1:]) / 2
    expected = [[p @ c for p, c in zip(*rows, strict=True)] for rows in zip(middle, seen, strict=True)]
    np.testing.assert_allclose(cost[0], expected)
    np.testing.assert_array_equal(epochs, [0.5, 1.5, 2.5, 3.5])


def test_one_seed_has_no_band():
    (axes,) = figures.cost_per_edge(synthetic.runs(1), "train").axes
    for band in axes.collections:
        assert not np.isfinite(band.get_paths()[0].vertices).all() if band.get_paths() else True
    assert summary.drawn_words(synthetic.runs(1)) == "One seed: a single run (n = 1), no band."


def test_split_columns_show_the_loss_and_entropy_of_their_images():
    runs = synthetic.runs(3)
    figure = figures.loss_entropy_cost(runs, "held_out", ("correct", "wrong"))
    above = figure.axes[:2]
    for part, axes in enumerate(above):
        for line, name in zip(axes.lines, ("split_loss", "split_entropy"), strict=True):
            expected = np.mean([run.arrays[name][:, 1, part] for run in runs], axis=0)
            np.testing.assert_allclose(line.get_ydata(), expected)
    difference = figure.axes[3].lines[0].get_ydata()
    np.testing.assert_allclose(difference, above[1].lines[0].get_ydata() - above[1].lines[1].get_ydata())


def test_probability_has_a_panel_an_edge_and_only_the_operations_that_the_edge_has():
    cell = space.minimal().only(("none", "skip_connect", "sep_conv_3x3"), 4)
    figure = figures.probability(synthetic.runs(2, cell=cell))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert panels[4].get_title(loc="left") == "◆ edge 4 (2→3) intermediate"
    assert [len(axes.lines) for axes in panels] == [8, 8, 8, 8, 3]
    colours = [line.get_color() for line in panels[4].lines]
    assert colours == [style.OPERATION_COLOURS[name] for name in ("none", "skip_connect", "sep_conv_3x3")]


def test_heat_map_puts_values_whose_interval_includes_zero_in_parentheses():
    figure = figures.heat_map(synthetic.runs(5, noise=5.0, initial_cost=0.001), "train", evaluation=0)
    written = [text.get_text() for text in figure.axes[0].texts]
    bracketed = [text for text in written if text.startswith("(")]
    values = np.stack([run.arrays["cost_mean"][0, 0, -1] for run in synthetic.runs(5, noise=5.0, initial_cost=0.001)])
    _, low, high = summary.band(values)
    assert len(bracketed) == ((low < 0) & (high > 0)).sum() > 0
    errors = values[:, 2, 3].std(ddof=1) / np.sqrt(5) / 10 ** np.floor(np.log10(np.abs(values.mean(0)).max()))
    assert written[2 * 8 + 3].endswith(f"\n±{errors:.2f}")


def test_one_run_is_marked_by_the_interval_over_its_batches():
    (run,) = synthetic.runs(1, noise=0.0)
    # n = 10, standard deviation 0.1: the half width is 2.26 · 0.032 = 0.072.
    run.arrays["statistics_mean"][-1, 0, 3], run.arrays["statistics_mean"][-1, 0, 4] = 0.071, 0.073
    written = [text.get_text() for text in figures.heat_map([run]).axes[0].texts]
    assert written[3:5] == ["(0.71)\n±0.32", "0.73\n±0.32"]
    found = summary.statistics([run])
    assert (
        not found.shown[-1, 0, 3]
        and found.shown[-1, 0, 4]
        and found.error[-1, 0, 3] == pytest.approx(0.1 / np.sqrt(10))
    )
    once = np.where(np.isfinite(run.arrays["statistics_mean"]), 1, 0)
    run = synthetic.FakeResult({**run.arrays, "statistics_count": once}, run.meta)
    assert np.isnan(summary.statistics([run]).error).all() and not summary.statistics([run]).shown.any(), (
        "one batch tells nothing"
    )


def test_means_over_seeds_have_the_error_over_seeds():
    values = np.array([[1.0, np.nan, 0.5], [2.0, 4.0, -0.5], [3.0, 6.0, np.nan]])
    found = summary.estimates(values, np.full(values.shape, 9.0), np.full(values.shape, 4))
    assert found.mean == pytest.approx([2, 5, 0]) and found.error == pytest.approx([1 / np.sqrt(3), 1, 0.5])
    assert found.shown.tolist() == [False, False, False]
    assert summary.estimates(values + 5, values, values).shown.tolist() == [True, False, False]


@pytest.mark.parametrize("drawn", summary.DRAWN)
def test_the_line_below_a_figure_says_what_is_drawn_and_n(drawn):
    runs = synthetic.runs(4)
    words = {1: summary.drawn_words(runs[:1], drawn), 4: summary.drawn_words(runs, drawn)}
    assert "n = 1" in words[1] and ("4 seeds" in words[4]) and words[1] != words[4]
    assert (
        ("Line:" in words[4]) == (drawn in ("lines", "geometric")) and words[1].endswith(".") and ".." not in words[1]
    )
    mixed = summary.drawn_words({"a": runs, "b": runs[:1]}, drawn)
    assert "a: n = 4; b: n = 1" in mixed
    with pytest.raises(summary.ReadingError, match="drawn is 'cloud'"):
        summary.drawn_words(runs, "cloud")


def test_a_note_stands_below_what_is_computed_on_the_page():
    figure = figures.cost_per_edge(synthetic.runs(2))
    assert "<small>64 images.</small>" in figures.show(figure, note="64 images.")._repr_html_()


def test_heat_map_is_centred_at_zero_and_scaled_by_one_power_of_ten():
    figure = figures.heat_map(synthetic.runs(3, initial_cost=0.02), "train", evaluation=0)
    image = figure.axes[0].images[0]
    assert image.norm.vcenter == 0 and image.norm.vmin == -image.norm.vmax
    assert figure.axes[1].get_ylabel() == "cost in 10⁻²"
    assert [text.get_text() for text in figure.axes[0].texts][0] == "0", "none is exactly zero"


def test_runs_without_statistics_say_what_to_ask_for():
    with pytest.raises(summary.ReadingError, match="statistics_epochs = 0"):
        figures.heat_map(synthetic.runs(2, statistics=False))


@pytest.mark.parametrize(
    "draw",
    [
        lambda runs: figures.cost_per_edge(runs, "test"),
        lambda runs: figures.cost_per_edge([]),
        lambda runs: figures.heat_map(runs, "test"),
        lambda runs: figures.loss_entropy_cost(runs, "test"),
        lambda runs: figures.loss_entropy_cost(runs, "train", "right"),
        lambda runs: figures.survivors({str(index): runs for index in range(len(style.SERIES) + 1)}),
        lambda runs: drawing.wiring_over_time(runs, epochs=[99]),
        lambda runs: drawing.wiring_over_time(runs, seed=99),
        lambda runs: figures.cost_per_edge([*runs, synthetic.result(cell=space.darts(4))]),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(draw):
    with pytest.raises(summary.ReadingError) as error:
        draw(synthetic.runs(2))
    assert len(str(error.value).splitlines()) == 1


def test_survivors_counts_edges_and_a_tie_is_no_drop():
    runs = synthetic.runs(3, kept=4, low=1, epochs=20)
    counts = summary.survivors(runs).sum(axis=-1)
    assert (counts[:, 0] == 5).all() and (counts[:, 10] == 1).all() and (counts[:, -1] == 4).all()
    (axes,) = figures.survivors({"runs": runs}).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), counts.mean(axis=0))


def arrows(figure):
    return figure.axes[0].findobj(matplotlib.patches.FancyArrowPatch)


def test_cell_drawing_has_every_node_edge_and_output_edge():
    figure = drawing.cell_drawing(space.minimal())
    nodes = figure.axes[0].findobj(matplotlib.patches.Circle)
    colours = [matplotlib.colors.to_hex(node.get_facecolor()) for node in nodes]
    blue, orange = style.NODE_COLOURS["input"], style.NODE_COLOURS["intermediate"]
    assert colours == [blue, blue, orange, orange, blue]
    assert len(arrows(figure)) == 5 + 2
    assert {"● 0", "● 1", "● 2", "● 3", "◆ 4"} <= {text.get_text() for text in figure.axes[0].texts}
    assert len(arrows(drawing.cell_drawing(space.modified()))) == 3 + 1


def test_wiring_shows_dropped_edges_dotted_and_the_others_by_their_operation():
    probability = np.full((5, 8), 0.05)
    probability[0, 4] = 0.65  # sep_conv_3x3
    probability[1:, 0] = 0.65
    drawn = arrows(drawing.cell_drawing(space.minimal(), probability))[2:]
    assert matplotlib.colors.to_hex(drawn[0].get_edgecolor()) == style.OPERATION_COLOURS["sep_conv_3x3"]
    assert drawn[0].get_linewidth() == pytest.approx(1 + 2.5 * 0.95)
    assert all(edge.get_linestyle() == ":" and edge.get_linewidth() == 1 for edge in drawn[1:])


@pytest.mark.parametrize(
    "cell", [space.minimal(), space.simplified(), space.darts(4), space.darts(5)], ids=lambda c: c.name
)
def test_no_edge_runs_through_a_node(cell):
    places = drawing.positions(cell)
    for ends, path in drawing.routes(cell, places).items():
        for node in set(places) - set(ends):
            assert np.hypot(*(path - np.array(places[node])).T).min() > drawing.RADIUS


def test_an_edge_would_rather_bow_than_run_through_a_node_even_where_no_other_edge_is_near():
    straight, bowed = (drawing._curve((0, 0), (3, 0), bend) for bend in (0.0, 0.35))
    assert drawing._merit(0.0, straight, [(1.5, 0)], []) < drawing._merit(0.35, bowed, [(1.5, 0)], [])
    assert drawing._merit(0.0, straight, [(1.5, 2)], []) > drawing._merit(0.35, bowed, [(1.5, 2)], [])


def test_shown_figure_is_an_image_with_its_alternative_text_and_provenance():
    runs = synthetic.runs(5)
    figure = figures.cost_per_edge(runs)
    shown = figures.show(figure, runs)
    markup = shown._repr_html_()
    (alt,) = re.findall(r'<img [^>]*alt="([^"]+)"', markup)
    assert alt == figure.get_label().replace("'", "&#x27;")
    (data,) = re.findall(r"svg\+xml;base64,([A-Za-z0-9+/=]+)", markup)
    assert base64.b64decode(data).decode() == style.svg(
        figure, f"{summary.drawn_words(runs)} {summary.provenance(runs)}"
    )
    assert summary.provenance(runs) in markup and "mean of 5 seeds" in markup
    assert 'alt="a &lt;b&gt; &quot;c&quot;"' in figures.show(figure, alt='a <b> "c"')._repr_html_()
    with pytest.raises(ValueError, match="alternative text"):
        figures.show(matplotlib.figure.Figure())


def test_band_is_the_t_interval_without_missing_values():
    assert summary.interval([1.0, 2.0, 3.0, 4.0]) == pytest.approx((2.5, 0.4457397, 4.5542603))
    assert summary.interval([1.0, np.nan, 3.0]) == pytest.approx((2.0, 2 - 12.7062047, 2 + 12.7062047))
    assert summary.interval([5.0])[0] == 5 and np.isnan(summary.interval([5.0])[1:]).all()
    assert np.isnan(summary.interval([np.nan])).all()
    assert summary.interval([1.0, 2.0, 3.0], 0.5)[1] > summary.interval([1.0, 2.0, 3.0])[1]


def test_provenance_names_everything_once():
    runs = synthetic.runs(3) + synthetic.runs(1, first=7)
    assert summary.provenance(runs) == (
        "CIFAR-10 re-encoded as JPEG, 2000 training images, 16×16 pixels, 50 % of them held out, "
        "10 % of the training labels replaced · seeds 0–2, 7 · recipe reference_darts_bilevel · scale small · "
        f"configuration {runs[0].meta['ident']} · code abcdef012345 · torch 2.14.1 on cpu"
    )
    both = summary.provenance({"a": runs, "b": synthetic.runs(1, recipe="other", dataset="digits")})
    assert "recipe reference_darts_bilevel, other" in both and "scikit-learn's digits" in both
    assert summary.drawn_words({"a": runs, "b": runs[:2]}).startswith("Line: mean of seeds (a: n = 4; b: n = 2).")


def test_attested_code_is_said():
    run = synthetic.result()
    run.meta["attested"] = {"from": "0" * 12}
    assert "code abcdef012345 (attested)" in summary.provenance([run])


def test_colours_are_one_an_operation_and_readable_on_white():
    assert list(style.OPERATION_COLOURS) == list(space.OPERATIONS)
    assert len(set(style.OPERATION_COLOURS.values())) == len(space.OPERATIONS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 5], [0, 5]), ([0, 0], [-0.5, 0.5]), ([0, 0, 0.9], [-0.7, 0.3, 1.3]), ([3], [3]), ([], [])],
)
def test_labels_move_apart_only_where_they_touch(values, expected):
    assert style.spread(values, 1.0) == pytest.approx(expected)


def test_a_method_looks_the_same_beside_any_others():
    labels = ["SNAS", "some control", "bi-level", "another"]
    looks = dict(zip(labels, style.looks(labels), strict=True))
    assert looks["SNAS"] == style.looks(["SNAS"])[0] and looks["bi-level"] == style.looks(["DSNAS", "bi-level"])[1]
    assert len(set(looks.values())) == len(labels)
    assert style.looks(["one", "other"]) == list(style.SERIES[:2])


def test_words_on_a_cell_have_the_better_contrast_and_no_sign_at_zero():
    assert [style.is_dark(colour) for colour in ("black", "#54278f", "#8c8c8c", "white")] == [True, True, False, False]
    assert figures._map_text(-0.0004, 0.001, False, 0) == "(0.00)\n±0.00"
    assert figures._map_text(-0.006, np.nan, True, 0) == "−0.01"


def test_a_band_stays_within_what_the_values_can_be():
    axes = style.new_figure(2).subplots()
    style.curve(axes, np.arange(2), np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), style.Pen("black"), within=(0, 1))
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == 0 and heights.max() == 1


def test_a_scale_of_probabilities_ends_where_they_do():
    runs = synthetic.runs(2)
    for run in runs:
        run.arrays["probability"][:] = 1 / 8
    assert figures.probability(runs).axes[0].get_ylim()[1] == pytest.approx(0.15, abs=0.01)
