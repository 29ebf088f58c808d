"""The one picture of the README: three searches, one row each, from recorded runs.

``python -m nas_core.pages.picture`` writes it to ``book/_assets/wiring.svg``; a test holds the file equal to that."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nas_core.derive import surviving
from nas_core.pages import drawing, runs, style, summary
from nas_core.pages.correspondence import BOOK
from nas_core.pages.parameters import Parameters

PICTURE = BOOK / "_assets" / "wiring.svg"
SEARCHES = {
    "DSNAS, slow weights": "corrected_phase_alpha1_theta0.03",
    "DSNAS": "corrected_dsnas",
    "DARTS, bi-level": "reference_darts_bilevel",
}
MOMENTS = 5


@style.styled
def wirings(panels: Mapping[str, Sequence], moments: int = MOMENTS) -> Figure:
    """The likeliest wiring of the first run of every panel, a row each, at ``moments`` epochs spread evenly."""
    figure = style.new_figure(1.25 * len(panels) + 0.7)
    grid = figure.subplots(len(panels), moments, squeeze=False)
    shown, words = [], []
    for row, (title, results) in zip(grid, panels.items(), strict=True):
        cell, values = summary.cell_of(results[0]), np.asarray(results[0].arrays["probability"])[:, 0]
        chosen = np.linspace(0, len(values) - 1, moments).round().astype(int)
        for axes, epoch in zip(row, chosen, strict=True):
            drawing.draw_cell(axes, cell, values[epoch], labels=False)
            axes.set_title(f"epoch {epoch}" if axes is not row[0] else f"{title}\nepoch {epoch}", loc="left")
            shown.append(values[epoch])
        kept = [int(surviving(values[epoch]).sum()) for epoch in chosen]
        words.append(f"{title}: {', '.join(map(str, kept))} of {len(cell.edges)} edges")
    figure.legend(handles=drawing.legend(cell, shown), loc="outside lower center", ncols=4, frameon=False)
    figure.set_label(f"Likeliest wiring at {moments} moments of a search. {'; '.join(words)}.")
    return figure


def main() -> None:
    """Write the picture from what is recorded; nothing is computed."""
    os.environ["NAS_RESULTS"] = "read"
    chosen = Parameters()
    PICTURE.write_text(style.svg(wirings(runs.recorded(chosen, SEARCHES))), encoding="utf-8")


if __name__ == "__main__":
    main()
