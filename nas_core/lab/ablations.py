"""The cells of Section 5.3 and Appendix G as data: what Figs 9, 27 and 28 vary, and the controls that they lack.

Edges carry the paper's names, (0,1), (0,2) and (1,2). Where an operation is fixed it is *sep_conv_5x5*, as in the
published scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

from nas_core.relaxation import EqualTraining, Relaxation, Uniform
from nas_core.space import Cell, modified, simplified

POOLS = ("max_pool_3x3", "avg_pool_3x3")
CONVOLUTIONS = ("sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5", "sep_conv_5x5")
FIXED = "sep_conv_5x5"

FIRST, DIRECT, BETWEEN = (0, 1), (0, 2), (1, 2)
"""The edge that feeds node 1, the input edge of node 2, and its intermediate edge."""


@dataclass(frozen=True)
class Ablation:
    """One setting: the figure that shows it (empty for a control of this book), what it varies, and its cell.

    ``relaxation`` draws the samples; it is uniform but for the control of equal training."""

    figure: str
    words: str
    cell: Cell
    relaxation: Relaxation = field(default_factory=Uniform)

    @property
    def has_output_edge(self) -> bool:
        """Whether node 1 is concatenated to the output, the paper's edge (1,3)."""
        return 1 in self.cell.outputs


def _fixed(cell: Cell, *edges: tuple[int, int]) -> Cell:
    for edge in edges:
        cell = cell.fix(edge, FIXED)
    return cell


ABLATIONS: dict[str, Ablation] = {
    "reference_simplified_a": Ablation("27a", "everything sampled", simplified()),
    "reference_simplified_b": Ablation(
        "27b", "(1,2) without convolutions", simplified().only(("none", "skip_connect", *POOLS), BETWEEN)
    ),
    "reference_simplified_c": Ablation(
        "27c", "(1,2) with none and convolutions", simplified().only(("none", *CONVOLUTIONS), BETWEEN)
    ),
    "reference_simplified_d": Ablation(
        "27d", "(0,1) with none and convolutions", simplified().only(("none", *CONVOLUTIONS), FIRST)
    ),
    "reference_simplified_e": Ablation(
        "27e", "(0,1) without convolutions", simplified().only(("none", "skip_connect", *POOLS), FIRST)
    ),
    "reference_simplified_f": Ablation("27f", "(0,1) and (0,2) fixed", _fixed(simplified(), FIRST, DIRECT)),
    "reference_modified_a": Ablation("28a", "everything sampled", modified()),
    "reference_modified_b": Ablation("28b", "(0,1) never none", modified().without("none", FIRST)),
    "reference_modified_c": Ablation("28c", "(0,1) fixed", _fixed(modified(), FIRST)),
    "reference_modified_d": Ablation(
        "28d", "(0,1) fixed, (1,2) without skip", _fixed(modified(), FIRST).without("skip_connect", BETWEEN)
    ),
    "corrected_simplified_a": Ablation("", "everything sampled, idle weights still", simplified()),
    "corrected_simplified_no_none": Ablation("", "(0,1) never none", simplified().without("none", FIRST)),
    "corrected_simplified_fixed": Ablation("", "(0,1) fixed", _fixed(simplified(), FIRST)),
    "corrected_equal_training": Ablation(
        "", "(1,2) trained as often as (0,2)", simplified(), EqualTraining((simplified().index(BETWEEN),))
    ),
}
"""Settings by the name of their recipe."""
