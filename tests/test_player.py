"""The player's markup: its numbers are those of the run, and it is complete without a script."""

import base64
import json
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup

from nas_core import space
from nas_core.derive import surviving
from nas_core.pages import introduction, player, style, summary, verdicts
from tests import synthetic

PAGE = 150_000
"""Bytes that all players of a page may take."""


def data_of(shown) -> dict:
    return json.loads(BeautifulSoup(shown._repr_html_(), "html.parser").script.string)


def unpacked(text: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def test_numbers_are_those_of_the_run_to_the_precision_of_their_bytes():
    run = synthetic.result(seed=3, kept=2, low=1)
    run.arrays["step_cost_mean"][4, -1, 2, 5] = np.nan  # never sampled
    (panel,) = data_of(player.show([run]))["panels"]
    probability = run.arrays["probability"][:, 0]
    packed = unpacked(panel["probability"], "u1", *probability.shape)
    np.testing.assert_allclose(packed / 255, probability, atol=0.5 / 255)
    cost = unpacked(panel["cost"], "<i2", *probability.shape)
    assert (cost[0] == player.UNKNOWN).all() and cost[5, 2, 5] == player.UNKNOWN
    assert (cost == player.UNKNOWN).sum() == cost[0].size + 1
    seen = run.arrays["step_cost_mean"][:, -1]
    np.testing.assert_allclose(
        (cost[1:] * panel["unit"])[np.isfinite(seen)], seen[np.isfinite(seen)], atol=panel["unit"]
    )
    total = unpacked(panel["edge_cost"], "<i2", *probability.shape[:2])
    np.testing.assert_allclose(total[1:] * panel["unit"], summary.edge_cost([run], "search")[1][0], atol=panel["unit"])


def test_an_edge_is_shown_as_dropped_where_none_is_likeliest_and_undecided_where_all_are_alike():
    run = synthetic.result(kept=2, low=1)
    run.arrays["probability"][0] = 1 / 8
    (panel,) = data_of(player.show([run]))["panels"]
    choice = unpacked(panel["choice"], "u1", 21, 5)
    np.testing.assert_array_equal(choice != space.NONE, surviving(run.arrays["probability"][:, 0]))
    assert (choice[0] == player.TIE).all() and (choice[1:] != player.TIE).all()
    assert player.TIE == len(style.OPERATION_COLOURS)


def test_a_long_search_is_thinned_with_both_ends_kept():
    (panel,) = data_of(player.show([synthetic.result(epochs=300)]))["panels"]
    assert len(panel["epochs"]) == player.MOST_FRAMES
    assert (panel["epochs"][0], panel["epochs"][-1]) == (0, 300)
    assert len(base64.b64decode(panel["choice"])) == player.MOST_FRAMES * 5


def test_methods_show_the_same_seed_and_say_so():
    runs = {"SNAS": synthetic.runs(3, first=1), "DSNAS": synthetic.runs(3, first=2)}
    assert "seed 2 " in player.show(runs)._repr_html_() and "One run of each method" in player.show(runs)._repr_html_()
    assert "seed 3 " in player.show(runs, seed=3)._repr_html_()
    with pytest.raises(summary.ReadingError, match="seed is 1; give one of 2, 3"):
        player.show(runs, seed=1)
    with pytest.raises(summary.ReadingError, match="no seed in common"):
        player.show({"a": synthetic.runs(1), "b": synthetic.runs(1, first=5)})
    with pytest.raises(summary.ReadingError, match="no result"):
        player.show([])


def test_without_a_script_there_are_small_multiples_in_words_and_pictures():
    shown = player.show({"A & B": [synthetic.result(kept=1)]})
    soup = BeautifulSoup(shown._repr_html_(), "html.parser")
    (picture,) = soup.select(".player-stills svg")
    assert picture["role"] == "img" and picture["aria-label"] == shown.alt
    assert "A & B, likeliest wiring of the minimal cell" in shown.alt and "epoch 20: 1" in shown.alt
    labels = [text.get_text() for text in picture.find_all("text") if "epoch" in text.get_text()]
    assert len(labels) == player.STILLS and labels[-1] == "epoch 20: 1 of 5 edges"
    last = picture.select("svg > g")[-1]
    assert [len(last.select(sign)) for sign in ("g > g > circle", "g > g > path")] == [4, 1], (
        "input and intermediate edges"
    )
    assert len(last.select('path[stroke-dasharray="7 5"]')) == 4, "four edges are dropped at the end"


def test_legend_names_what_occurs_and_nothing_else():
    run = synthetic.result(kept=5)
    run.arrays["probability"][:] = np.eye(8)[4] * 0.6 + 0.05  # sep_conv_3x3 everywhere, always
    run.arrays["probability"][3, 0, 4] = np.eye(8)[0]  # but once none
    soup = BeautifulSoup(player.show([run])._repr_html_(), "html.parser")
    entries = [entry.get_text().strip() for entry in soup.select(".player-legend li")]
    assert entries[:-2] == ["dropped (none)", "sep_conv_3x3", "● input edge", "◆ intermediate edge"]


def test_a_title_cannot_end_the_script():
    shown = player.show({"</script><b>": [synthetic.result()]})
    assert data_of(shown)["panels"][0]["title"] == "</script><b>"
    assert "<b>" not in re.sub(r"<script.*?</script>", "", shown._repr_html_(), flags=re.DOTALL)


@pytest.mark.parametrize(
    "cell", [space.minimal(), space.modified(), space.darts(3), space.darts(4)], ids=lambda c: c.name
)
def test_edges_begin_and_end_at_their_nodes_and_touch_no_other(cell):
    shape = player._geometry(cell)
    places = np.array([node[:2] for node in shape["nodes"]], dtype=float)
    for edge in shape["edges"]:
        start, control, end = (np.array(pair.split(), float) for pair in re.findall(r"-?\d+ -?\d+", edge["line"]))
        t = np.linspace(0, 1, 99)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
        far = np.hypot(*(curve[:, None] - places).T)  # [nodes, points]
        source, target = edge["ends"]
        assert far[source, 0] == pytest.approx(player.RADIUS, abs=3)
        assert far[target, -1] == pytest.approx(player.RADIUS + 12, abs=3)
        assert np.delete(far, [source, target], axis=0).min() > player.RADIUS
    left, top, width, height = shape["box"]
    inside = (places - player.RADIUS >= (left, top)).all() and (
        places + player.RADIUS <= (left + width, top + height)
    ).all()
    assert inside


def test_the_players_of_a_page_are_small():
    """Two methods on the paper's cell of 14 edges, and a bi-level search: what the introduction shows."""
    pair = {name: [synthetic.result(cell=space.darts(4), epochs=75)] for name in ("SNAS", "DSNAS")}
    page = player.show(pair)._repr_html_() + player.show(synthetic.runs(1, epochs=50))._repr_html_()
    # The book's extension moves the data to files of their own.
    assert len(re.sub(r'<p class="figure-data">.*?</p>', "", page).encode()) < PAGE


@pytest.fixture
def book(tmp_path):
    """A book that has one of the chapters that the introduction names."""
    (tmp_path / "_toc.yml").write_text(
        "root: index\nparts:\n  - chapters:\n      - file: 05_bilevel\n", encoding="utf-8"
    )
    for name in ("index.md", "05_bilevel.ipynb"):
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def test_introduction_judges_each_method_and_links_only_what_is_there(book):
    grown = synthetic.runs(5, kept=4, low=0)
    results = {
        introduction.SNAS: grown,
        introduction.DSNAS: synthetic.runs(5, kept=5, low=5),
        verdicts.BILEVEL: synthetic.runs(5, kept=1),
        verdicts.SINGLE: grown,
    }
    header, _, *rows = introduction.statements(results, book).splitlines()
    assert "direction, magnitude" in header and len(rows) == 4
    snas, dsnas = rows[0].split("<br>")[:2]
    assert 'SNAS: <span class="verdict reproduced">' in snas and 'DSNAS: <span class="verdict not-reproduced">' in dsnas
    assert "{doc}`05_bilevel`" in rows[2] and "not in the book yet" in rows[0]
    assert introduction.questions(book).count("{doc}") == 1


def test_introduction_says_what_it_lacks(book):
    rows = introduction.statements({introduction.SNAS: synthetic.runs(5)}, book).splitlines()[2:]
    assert "not tested at this scale" in rows[2] and "needs runs of bi-level" in rows[2]
