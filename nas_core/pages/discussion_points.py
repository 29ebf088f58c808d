"""The four suggestions and the two questions of Section 6 as data: what speaks to each, and the sentences that follow."""

from __future__ import annotations

from dataclasses import dataclass

from nas_core.pages.variant_measures import NOTHING
from nas_core.patterns import FEW

SHOWN, OPPOSITE, UNCLEAR, UNTESTED = "shown", "opposite", "unclear", "untested"


@dataclass(frozen=True)
class Answer:
    """One quantity and what follows from it.

    ``measure`` names a measure of :mod:`nas_core.pages.discussion`, which may be the ``claim`` itself. ``n`` of its number counts ``counts``. ``expected`` is the side of ``boundary`` on which the answer is yes (+1 above, −1 below); ``ratio`` says
    that the quantity is one. ``short`` labels it in the figure. One of the three sentences is said."""

    measured: str
    short: str
    measure: str
    claim: str
    expected: int
    where: str
    shown: str
    opposite: str
    unclear: str
    boundary: float = 0.0
    ratio: bool = False
    counts: str = "seeds"


@dataclass(frozen=True)
class Point:
    """A suggestion or a question: its ``name`` in table and figure, and its answers."""

    name: str
    answers: tuple[Answer, ...]


EVOLUTION, OBSERVATIONS, EDGES = "{doc}`A_evolution`", "{doc}`03_observations`", "{doc}`05_intermediate_edges`"
BILEVEL, NORMALISATION, STATISTICS = (
    "{doc}`05_bilevel`",
    "{doc}`H_normalization_and_order`",
    "{doc}`05_cost_statistics`",
)

SEARCHED = Point(
    "1. What is searched",
    (
        Answer(
            f"share of edges on which five derivation rules disagree about one recorded α, against {FEW:g}",
            "rules disagree",
            "B4",
            "B4",
            +1,
            EVOLUTION,
            "Which rule derives the cell decides a good part of its edges: a wiring reported without its rule says little.",
            "The rules agree on nearly all edges, so that the wiring is α's and not the rule's.",
            "Whether the derivation rule matters for more than a few edges is undecided.",
            boundary=FEW,
        ),
        Answer(
            "intermediate edges that *top two a node, without none* keeps, minus what blind choice would",
            "top two a node against chance",
            "G-topk",
            "G-topk",
            -1,
            EVOLUTION,
            "A rule that cannot choose *none* still takes fewer intermediate edges than chance would: the preference is in α.",
            "A rule that cannot choose *none* takes more intermediate edges than chance would: the preference is the rule's.",
            "Under a rule that cannot choose *none* the preference for width cannot be told from chance.",
        ),
        Answer(
            "rise of the share of alive edges from its minimum to the end of single-level search",
            "growth from the minimum",
            "P1",
            "P1",
            +1,
            OBSERVATIONS,
            "The cell at the end is not the smallest one on the way: only the evolution shows that edges went and came back.",
            "The cell only shrinks.",
            "That edges which are dropped come back is not shown over all frameworks: the evolution has to be shown, not assumed.",
        ),
    ),
)

NORMALISED = Point(
    "2. Normalisation",
    (
        Answer(
            "correlation of cost maps under affine layer and instance norm with those under batch norm",
            "affine norms like batch norm",
            "N-affine",
            "N-affine",
            +1,
            NORMALISATION,
            "Costs under other affine normalisations share something with those under batch norm; the verdict says how much.",
            "Costs under other affine normalisations go against those under batch norm.",
            "Costs under other affine normalisations cannot be told from ones unrelated to those under batch norm.",
        ),
        Answer(
            f"largest cost under affine-free instance norm, as a share of batch norm's mean cost, against {NOTHING:g}",
            "no cost without affine",
            "N-IN",
            "N-IN",
            -1,
            NORMALISATION,
            "Instance norm without affine parameters leaves no cost at all, so that α has nothing to follow.",
            "Instance norm without affine parameters leaves costs.",
            "Whether instance norm without affine parameters leaves any cost is undecided.",
            boundary=NOTHING,
        ),
        Answer(
            "correlation of cost maps in the two other orders of convolution, ReLU and norm with those in the usual one",
            "other orders like the usual one",
            "S-order",
            "S-order",
            +1,
            NORMALISATION,
            "The order of convolution, ReLU and norm leaves a common part in the costs; the verdict says whether that is all.",
            "The order of convolution, ReLU and norm turns the costs around.",
            "The costs in other orders cannot be told from ones unrelated to the usual order's.",
        ),
    ),
)

SHARED = Point(
    "3. Sampling and training",
    (
        Answer(
            "cost of edge (1,2) minus that of (0,2), same operation, mean over the settings of Fig 27",
            "intermediate edge costs more",
            "R2",
            "R2",
            +1,
            EDGES,
            "Sharing weights over sampled networks leaves the intermediate edge dearer than its rival into the same node.",
            "Sharing weights over sampled networks leaves the intermediate edge cheaper than its rival into the same node.",
            "Which of the two edges into a node costs more under weight sharing is undecided.",
        ),
        Answer(
            "change of that difference when both edges are trained equally often",
            "equal training closes the gap",
            "equal training",
            "B7",
            -1,
            EDGES,
            "Training both edges equally often lowers the difference: how often a candidate is trained is part of the cause.",
            "Training both edges equally often makes the difference larger: how rarely a candidate is trained is not the cause.",
            "Training both edges equally often does not measurably change the difference, so the number of updates alone is "
            "not shown to be the cause.",
        ),
        Answer(
            "the same difference without the output edge and with (0,1) fixed (Figs 28c and 28d)",
            "reversed in the modified cell",
            "R2-ctrl",
            "R2-ctrl",
            -1,
            EDGES,
            "The network from which one samples turns the order around: the preference is the base architecture's.",
            "The modified network leaves the order as it was.",
            "Whether the modified network turns the order around is undecided.",
        ),
    ),
)

CAUTION = Point(
    "4. Bi-level search",
    (
        Answer(
            "edges that survive bi-level search, minus its single-level control",
            "fewer edges survive",
            "P3",
            "P3",
            -1,
            BILEVEL,
            "The caution is in place: bi-level search drops edges that its single-level control keeps.",
            "Bi-level search keeps more edges than its control: there is no reason for caution in these runs.",
            "Bi-level search is not shown to drop more edges than its control.",
        ),
        Answer(
            "L − H on held-out images at the end of bi-level search",
            "held-out cost ends positive",
            "R4",
            "R4",
            +1,
            BILEVEL,
            "The cost that α is charged ends above zero, where *none* gains, as Remark 4 has it.",
            "The cost that α is charged ends below zero, where no edge should be dropped.",
            "The sign of the cost that α is charged at the end is undecided.",
        ),
        Answer(
            "surviving edges when α is judged on held-out images instead of θ's own, mean over orders of steps and recorded relaxations",
            "held-out images drop edges",
            "B1",
            "B1",
            -1,
            BILEVEL,
            "On average over the recorded relaxations it is the held-out images that drop the edges; name them, rather than the two "
            "levels, as what to be careful of.",
            "Judging α on held-out images keeps edges, so the failure has another cause.",
            "On average over the recorded relaxations the held-out images are not shown to be what drops the edges.",
        ),
        Answer(
            "rank correlation of the generalisation gap and the number of surviving edges, over settings",
            "a wider gap drops edges",
            "B2",
            "B2",
            -1,
            BILEVEL,
            "Where the network generalises less, fewer edges survive: report the generalisation gap beside the wiring.",
            "Where the network generalises less, more edges survive.",
            "The generalisation gap is not shown to decide what survives.",
        ),
    ),
)

CIRCUMVENT = Point(
    "A. Ways around",
    (
        Answer(
            "edges that bi-level search keeps with α judged on θ's own images, minus on held-out ones",
            "α on training images keeps edges",
            "own images",
            "B1",
            +1,
            BILEVEL,
            "P3 has a way around: keep the two steps and judge α on θ's own images. What is lost is that α is no longer "
            "asked about images that θ has not seen.",
            "Judging α on θ's own images makes P3 worse.",
            "Judging α on θ's own images is not shown to help against P3.",
        ),
        Answer(
            "P2's difference, input minus intermediate edges alive, under the corrected gradient of DSNAS",
            "width with the correct gradient",
            "B3",
            "B3",
            +1,
            EVOLUTION,
            "The correct gradient is no way around P2: the preference for width is there under it, too.",
            "Under the correct gradient the preference turns towards depth.",
            "Under the correct gradient the preference for width is not shown.",
        ),
        Answer(
            "how much more fixing (0,1) lowers the cost of (1,2) once the output edge is gone",
            "fixing works without output edge",
            "fixing",
            "R2-ctrl",
            -1,
            EDGES,
            "The two changes to the cell work together: fixing an edge does more once the output edge is gone. That is a way "
            "around for one cell, bought with a smaller search space.",
            "Fixing an edge does less once the output edge is gone.",
            "The two changes to the cell are not shown to work together.",
        ),
        Answer(
            "accuracy on images never trained on, wide cell minus deep cell of equal cost, each trained alone",
            "the wide cell is better",
            "B6",
            "B6",
            +1,
            "{ref}`discarded`",
            "Trained alone the wide cell is the better one: a way around the bias would have cost accuracy here.",
            "Trained alone the deep cell is the better one: what the search discards is what it should have kept.",
            "Trained alone the wide and the deep cell cannot be told apart: nothing shows that the bias helps or hurts.",
        ),
    ),
)

OTHERS = Point(
    "B. Other biases",
    (
        Answer(
            "rank correlation, over the phase diagram, of the predicted way of α with the share of edges dropped",
            "speed of α against θ",
            "speed",
            "P1",
            +1,
            EVOLUTION,
            "The ratio of two learning rates decides whether P1 is seen: that is a bias of its own, and a setting that few "
            "papers report.",
            "Fewer edges are dropped where α could go farther, against the prediction.",
            "The ratio of the learning rates is not shown to decide whether P1 is seen.",
            counts="points of the diagram",
        ),
        Answer(
            "delay between an edge's cost turning negative and its recovery",
            "cost turns before recovery",
            "R1",
            "R1",
            +1,
            OBSERVATIONS,
            "Edges come back after their cost has turned, as the explanation of growth needs.",
            "Edges come back before their cost has turned, so something besides the sign of the cost brings them back.",
            "That edges come back only after their cost has turned is not shown; something else may bring them back.",
        ),
        Answer(
            "summed cost after training, on augmented images minus on the same images plain",
            "dearer on augmented images",
            "augmented",
            "T2",
            +1,
            STATISTICS,
            "Augmentation raises the cost that α is charged: which images α is judged on matters within the training set, too.",
            "Augmentation lowers the cost that α is charged: which images α is judged on matters within the training set, too.",
            "Augmentation is not shown to change the cost that α is charged.",
        ),
        Answer(
            "mean cost after training with shuffled labels, minus with true ones",
            "dearer with shuffled labels",
            "shuffled labels",
            "B7",
            +1,
            STATISTICS,
            "Labels that say less leave costs higher: noise in the labels works against every wiring.",
            "Labels that say less leave costs lower.",
            "Whether noise in the labels changes the costs is undecided.",
        ),
        Answer(
            "time to the same error of the cost, one probe a batch over the conditioned estimator",
            "one probe is wasteful",
            "B5",
            "B5",
            +1,
            "{doc}`05_cost_estimators`",
            "How the cost is estimated is a choice of its own: one probe a batch takes longer to the same error than "
            "conditioning does.",
            "One probe a batch is the fastest way to a given error.",
            "Which estimator of the cost is faster is undecided.",
            boundary=1.0,
            ratio=True,
        ),
    ),
)

POINTS = (SEARCHED, NORMALISED, SHARED, CAUTION, CIRCUMVENT, OTHERS)
"""In the paper's order; letters count its two questions."""
