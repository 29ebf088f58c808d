"""The notation of the book as data: every symbol, what it means, its shape, and where it is defined."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Symbol:
    """A row of the notation table. ``label`` is the equation or figure of the book that defines the symbol, ``where``
    the words that stand where there is none (yet)."""

    symbol: str
    meaning: str
    shape: str = ""
    label: str = ""
    where: str = ""


BACKGROUND = "{doc}`02_background`"
WORTH = "{ref}`Section 4 <worth-and-charge>`"
HERE = "this page"

SYMBOLS: tuple[Symbol, ...] = (
    # Sizes
    Symbol("$B$", "images in a batch; $b$ counts them", where=HERE),
    Symbol(
        "$N$", "cells in a stack. In Appendix F: the number of classes, which has no letter in the paper", where=HERE
    ),
    Symbol(
        "$E$, $e$",
        "edges of a cell that carry operations; one of them, also $(i, j)$ or e0, e1, …",
        label="paper-fig-2",
    ),
    Symbol(
        "$K$, $k$",
        "candidate operations of an edge, *none* included; one of them. In Eqs 12–14: the width of a filter",
        where=BACKGROUND,
    ),
    Symbol(
        "$n$, $y$",
        "number of classes; the label of an image. In Eqs 8–22 $n$ counts the classes, and $n_b$ is the label of image $b$",
        where=HERE,
    ),
    Symbol(
        "$c$, $D$, $d$",
        "a channel; pixels of a feature map, width times height; one of them ($w$, $h$ where they are apart)",
        where=HERE,
    ),
    Symbol("$C_{in}$, $C_{out}$", "channels before and after a convolution", label="paper-eq-14", where="Appendix D"),
    # The cell and the draw
    Symbol("$\\mathcal A$", "the search space: all cells of Section 2.1", "set", "paper-def-1", "Section 5.2"),
    Symbol(
        "$x_i$, $\\mathbf X_i$",
        "node $i$ of a cell: a feature map, the sum of what its edges bring",
        "$B \\times C \\times H \\times W$",
        "paper-fig-2",
    ),
    Symbol(
        "$\\mathbf X_j^i$, $x_j^i$",
        "what edge $(i, j)$ brings to node $j$; for an output node, the share of node $i$ in it",
        "as $\\mathbf X_j$",
        "paper-eq-5",
        "Section 4",
    ),
    Symbol(
        "$O_{i,j}^k$, $\\mathbf O_{i,j}$",
        "candidate operation $k$ of an edge; all of them",
        "map of feature maps; $K$ of them",
        "paper-eq-1",
    ),
    Symbol(
        "$\\mathbf Z_{i,j}$, $Z^k_e$",
        "weights of an edge's candidates; one-hot if nothing stands over it, drawn from $p_\\alpha$",
        "$K$",
        "paper-eq-1",
    ),
    Symbol(
        "$s$",
        "the operation that a one-hot $\\mathbf Z$ selects. In Appendix F: the standard deviation of the logits",
        "index",
        "paper-eq-4",
        "Section 4",
    ),
    Symbol("$\\hat{\\mathbf Z}$", "weights of DARTS, a softmax", "$K$, sum 1", "eq-darts-sample"),
    Symbol(
        "$\\tilde{\\mathbf Z}$",
        "weights of SNAS, a softmax of perturbed $\\log\\alpha$",
        "$K$, sum 1",
        "eq-snas-sample",
    ),
    Symbol(
        "$\\mathbf Z_{\\setminus e}$",
        "the weights of all edges but $e$",
        "$(E-1) \\times K$",
        "paper-eq-5",
        "Section 4",
    ),
    Symbol(
        "$\\alpha$, $\\log\\alpha$",
        "architecture parameters; $\\log\\alpha$ is what is trained",
        "$E \\times K$ a kind of cell",
        where=BACKGROUND,
    ),
    Symbol(
        "$p_\\alpha$, $p_e^k$",
        "distribution of $\\mathbf Z$; probability of operation $k$ on edge $e$, softmax of $\\log\\alpha_e$",
        "$E \\times K$",
        "paper-eq-2",
    ),
    Symbol("$\\lambda$", "temperature of a softmax", label="eq-darts-sample"),
    Symbol(
        "$\\mathbf G$, $U$", "Gumbel noise $-\\log(-\\log U)$; uniform on $(0, 1)$", "$E \\times K$", "eq-snas-sample"
    ),
    # Loss and cost
    Symbol("$\\theta$", "weights of stem, operations and head", "all parameters but $\\alpha$", "paper-eq-3"),
    Symbol(
        "$g_\\theta$, $\\mathcal D$, $D$",
        "the drawn network; the data set (in Eq 3 the paper calls it $D$)",
        "images to logits",
        "paper-eq-3",
    ),
    Symbol(
        "$L$, $L_\\theta$, $\\mathcal L$",
        "the loss: mean cross entropy of a batch, in nats; $\\mathcal L$ at relaxed weights",
        label="paper-eq-3",
    ),
    Symbol(
        "$H$, $H_\\theta$",
        "mean entropy of the predicted distributions, in nats. As a size: the height of a feature map",
        label="paper-eq-8",
        where="Section 5.2",
    ),
    Symbol(
        "$C^k_e$, $C(\\mathbf Z_e)$",
        "cost of an operation, $\\partial L/\\partial Z_e^k$; of the one that was drawn. As a size: channels",
        label="paper-eq-4",
        where="Section 4",
    ),
    Symbol(
        "$C_e$, $C$, $C_{\\mathbf Z}$",
        "cost of an edge, $\\sum_k Z^k_e C^k_e$; of the last cell's edges together",
        label="paper-eq-8",
        where="Section 5.2",
    ),
    Symbol("$D_e$", "worth of an operation: the loss with it minus the loss without it", where=WORTH),
    Symbol(
        "$[\\,\\cdot\\,]_c$", "held constant when the gradient is taken", "as its argument", "paper-eq-4", "Section 4"
    ),
    Symbol("$\\langle a, b\\rangle$", "inner product over images, channels and pixels", where=HERE),
    Symbol(
        "$S$",
        "what skips on intermediate edges pass back inside a cell",
        label="eq-cell-sum",
        where="Appendix E",
    ),
    Symbol(
        "$\\phi$",
        "in Appendix C: the angle between $\\partial L/\\partial \\mathbf X_j$ and $\\mathbf X_j^i$",
        label="eq-cost-factors",
        where="Appendix C",
    ),
    # Normalisation
    Symbol(
        "$\\mathbf X$",
        "in Appendices D and H: the input of a normalisation, that is, a convolution's output",
        "$B \\times C \\times H \\times W$",
        "paper-eq-23",
        "Appendix H",
    ),
    Symbol(
        "$g$ as index",
        "a group: entries that share a mean and a variance",
        "subset of the entries",
        "eq-group-norm",
        "Appendix H",
    ),
    Symbol(
        "$\\mu_g$, $\\sigma_g^2$",
        "mean and variance of a group, those of the batch at hand",
        "one a group",
        "eq-group-norm",
        "Appendix H",
    ),
    Symbol("$\\varepsilon$", "what a normalisation adds to the variance", label="eq-group-norm", where="Appendix H"),
    Symbol(
        "$\\hat{\\mathbf X}$",
        "the normalised input, before $\\gamma$ and $\\beta$",
        "as $\\mathbf X$",
        "paper-eq-23",
        "Appendix H",
    ),
    Symbol(
        "$\\gamma$, $\\beta$", "affine parameters of a normalisation", "one a channel", "eq-group-norm", "Appendix H"
    ),
    Symbol(
        "$W$",
        "filter of a convolution. As a size: the width of a feature map",
        "$C_{out} \\times C_{in} \\times K \\times K$",
        "paper-eq-14",
        "Appendix D",
    ),
    # Head
    Symbol(
        "$\\mathbf X_4$, $\\mathbf X_{output}$",
        "the output node of the minimal cell; of any cell",
        "$B \\times C \\times H \\times W$",
        "paper-fig-2",
    ),
    Symbol(
        "$\\mathbf X_p$",
        "pooled features, the mean of the output node over pixels",
        "$B \\times C$",
        "paper-eq-21",
        "Appendix F",
    ),
    Symbol(
        "$w$, $b$",
        "weights and, if there is one, bias of the linear head",
        "$C \\times n$; $n$",
        "paper-eq-21",
        "Appendix F",
    ),
    Symbol("$Y_{bn}$", "logits", "$B \\times n$", "paper-eq-9", "Section 5.2"),
    Symbol("$p_b$", "predicted distribution of image $b$, softmax of its logits", "$n$", "paper-eq-9", "Section 5.2"),
    Symbol("$\\mathrm{KL}(p \\Vert q)$", "Kullback–Leibler divergence, $\\sum p \\log (p/q)$", where=HERE),
    Symbol("$u$", "the uniform distribution over the classes", "$n$", "eq-chance", "Appendix F"),
    Symbol("$W(x)$", "Lambert's function, $W(x)\\,e^{W(x)} = x$", label="eq-lowest", where="Appendix F"),
    # Statistics
    Symbol("$n$ in a table", "seeds or runs that a number rests on", where=HERE),
)
"""In the order in which a reader meets them."""
