"""What opens the gap: readings, the point of early stopping, and the sentence on prediction."""

import numpy as np

from nas_core.pages import gap
from tests import synthetic


def runs(kept, held, count=5, **dials):
    return synthetic.runs(count, kept=kept, held_cost=(0.4, held), **dials)


def test_early_stopping_is_where_the_held_out_loss_is_lowest():
    own = runs(1, 1.2)
    for run, row in zip(own, range(5), strict=True):
        run.arrays["loss"][:, 1] = 2.0
        run.arrays["loss"][row, 1] = 1.0
    assert gap.stop(own).tolist() == [0, 1, 2, 3, 4]
    alive = gap.kept(own)
    assert alive.shape == gap.gaps(own).shape == gap.held_out_cost(own).shape
    assert (alive[:, 0] == 5).all() and (alive[:, -1] == 1).all()


def test_the_table_has_a_row_a_setting_and_the_figure_a_point_a_run():
    results = {"few": runs(1, 1.2), "most": runs(4, -0.5)}
    lines = gap.table(results).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| few | 5 |") and "| 4.00 [4.00, 4.00] |" in lines[3]
    figure = gap.paths(results)
    points = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    assert len(points) == 10
    assert [line.get_markerfacecolor() for line in points[:5]] == ["white"] * 5
    assert "white" not in [line.get_markerfacecolor() for line in points[5:]]
    assert "few: mean gap" in figure.get_label() and "1.0 edges alive" in figure.get_label()


def test_the_sentence_gives_the_sign_of_the_relation():
    mixed = {"few": runs(1, 1.2), "some": runs(3, 0.2), "most": runs(5, -0.9)}
    assert "held-out cost −0.9" in gap.prediction(mixed) and "Over 15 runs" in gap.prediction(mixed)
    assert "nothing predicts it" in gap.prediction({"few": runs(1, 1.2), "more": runs(1, 0.3)})
    assert "None of these" in gap.prediction({}) and not gap.paths({}).axes[0].lines[1:]
    assert np.isfinite(gap.gaps(mixed["few"])).all()
