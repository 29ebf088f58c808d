"""What a sweep varies around one DSNAS search: α's speed against θ's (P1's phase diagram), and everything that P-univ
names.

A variation is data: factors on the two learning rates, and what replaces a part of the network. The search around
which it varies is that of ``corrected_dsnas``, or for P3 that of ``reference_darts_bilevel``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from nas_core.config import SearchConfig
from nas_core.relaxation import Relaxation, Snas
from nas_core.space import Cell, darts, minimal


@dataclass(frozen=True)
class Variation:
    """What differs: ``alpha`` and ``theta`` multiply the learning rates, ``epochs`` the length; None keeps the base's
    cell, number of cells, channels and relaxation. The base is bi-level where ``bilevel`` says so.
    """

    words: str
    alpha: float = 1.0
    theta: float = 1.0
    epochs: float = 1.0
    cell: Cell | None = None
    cells: int | None = None
    channels: int | None = None
    relaxation: Relaxation | None = None
    bilevel: bool = False

    def apply(self, base: SearchConfig) -> SearchConfig:
        """The search ``base`` with this variation."""
        network, alpha, theta = base.network, base.alpha, base.theta
        assert alpha is not None and theta is not None  # both are trained in the searches that this module varies
        return replace(
            base,
            relaxation=self.relaxation or base.relaxation,
            epochs=max(1, round(base.epochs * self.epochs)),
            network=replace(
                network,
                cell=self.cell or network.cell,
                cells=self.cells or network.cells,
                channels=self.channels or network.channels,
            ),
            alpha=replace(alpha, learning_rate=round(alpha.learning_rate * self.alpha, 8)),
            theta=replace(
                theta,
                learning_rate=round(theta.learning_rate * self.theta, 8),
                final_learning_rate=round(theta.final_learning_rate * self.theta, 8),
            ),
        )


ALPHA_FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
THETA_FACTORS = (0.03, 0.1, 0.3, 1.0)

PHASE: dict[str, Variation] = {
    f"corrected_phase_alpha{alpha:g}_theta{theta:g}": Variation(
        f"learning rate of α times {alpha:g}, of θ times {theta:g}", alpha=alpha, theta=theta, cells=1, epochs=0.5
    )
    for theta in THETA_FACTORS
    for alpha in ALPHA_FACTORS
}
"""Points of the phase diagram of P1 by the name of their recipe: one minimal cell, half the epochs, as a drop comes
early."""

SIZED_POINTS = ((1.0, 0.03), (1.0, 0.3))
"""Factors of α's and θ's rate at which the network's size varies: slow θ, where most edges drop, and a faster one."""
NETWORKS = {"cells2": (2, None), "cells4": (4, None), "channels4": (1, 4), "channels16": (1, 16)}
"""Cells and channels (None: the base's) in place of one cell."""
SIZES: dict[str, Variation] = {
    f"{name}_{size}": replace(PHASE[name], words=f"{PHASE[name].words}, {size}", cells=cells, channels=channels)
    for name in (f"corrected_phase_alpha{alpha:g}_theta{theta:g}" for alpha, theta in SIZED_POINTS)
    for size, (cells, channels) in NETWORKS.items()
}
"""Points of the phase diagram with more cells, or with fewer or more channels, by the name of their recipe."""

UNIVERSAL: dict[str, Variation] = {
    "corrected_universal_base": Variation("as it is", cell=minimal()),
    "corrected_universal_alpha_slow": Variation("α's learning rate × 0.3", alpha=0.3, cell=minimal()),
    "corrected_universal_alpha_fast": Variation("α's learning rate × 3", alpha=3.0, cell=minimal()),
    "corrected_universal_theta_slow": Variation("θ's learning rate × 0.3", theta=0.3, cell=minimal()),
    "corrected_universal_theta_fast": Variation("θ's learning rate × 3", theta=3.0, cell=minimal()),
    "corrected_universal_one_cell": Variation("one cell", cells=1, cell=minimal()),
    "corrected_universal_four_cells": Variation("four cells", cells=4, cell=minimal()),
    "corrected_universal_three_nodes": Variation("three nodes", cell=darts(3)),
    "corrected_universal_four_nodes": Variation("four nodes", cell=darts(4)),
    "corrected_universal_no_skip": Variation("no skip_connect", cell=minimal().without("skip_connect")),
    "corrected_universal_no_pooling": Variation("no pooling", cell=minimal().without(("max_pool_3x3", "avg_pool_3x3"))),
    "corrected_universal_two_operations": Variation(
        "none and sep_conv_3x3 only", cell=minimal().only(("none", "sep_conv_3x3"))
    ),
    "corrected_universal_snas": Variation("SNAS", relaxation=Snas(), cell=minimal()),
    "corrected_universal_snas_one_cell": Variation("SNAS, one cell", relaxation=Snas(), cells=1, cell=minimal()),
    "corrected_universal_snas_three_nodes": Variation("SNAS, three nodes", relaxation=Snas(), cell=darts(3)),
    "corrected_universal_bilevel": Variation("bi-level DARTS", bilevel=True),
    "corrected_universal_bilevel_alpha_slow": Variation("bi-level, α's learning rate × 0.3", alpha=0.3, bilevel=True),
    "corrected_universal_bilevel_alpha_fast": Variation("bi-level, α's learning rate × 3", alpha=3.0, bilevel=True),
    "corrected_universal_bilevel_one_cell": Variation("bi-level, one cell", cells=1, bilevel=True),
    "corrected_universal_bilevel_three_nodes": Variation("bi-level, three nodes", cell=darts(3), bilevel=True),
    "corrected_universal_bilevel_four_nodes": Variation(
        "bi-level, four nodes, half the width", cell=darts(4), channels=8, bilevel=True
    ),
    "corrected_universal_bilevel_no_skip": Variation(
        "bi-level, no skip_connect", cell=minimal().without("skip_connect"), bilevel=True
    ),
}
"""The settings of P-univ by the name of their recipe: P1 and P2 are looked for in single-level ones, P3 in bi-level ones."""

CONTROLS: dict[str, str] = {
    name: name.replace("bilevel", "single_darts")
    for name, own in UNIVERSAL.items()
    if own.bilevel and name != "corrected_universal_bilevel"
}
"""The single-level control of every bi-level setting, by the setting's name; that of the first is ``corrected_darts_single``."""


def recipes(
    single: Callable[[str], SearchConfig],
    bilevel: Callable[[str], SearchConfig],
    control: Callable[[str], SearchConfig],
) -> dict[str, Callable[[str], SearchConfig]]:
    """One recipe for every variation, around the ``single``-level or the ``bilevel`` search, and one for every ``control``."""
    made: dict[str, Callable[[str], SearchConfig]] = {}
    every = [(name, own, bilevel if own.bilevel else single) for name, own in (PHASE | SIZES | UNIVERSAL).items()]
    every += [(own, replace(UNIVERSAL[name], bilevel=False), control) for name, own in CONTROLS.items()]
    for name, variation, around in every:

        def recipe(scale: str, variation: Variation = variation, around: Callable = around) -> SearchConfig:
            return variation.apply(around(scale))

        recipe.__name__ = name
        recipe.__doc__ = f"{'The control of a' if around is control else 'A'} search varied: {variation.words}."
        made[name] = recipe
    return made
