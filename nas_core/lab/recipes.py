"""Recipes: functions that return the configuration of an experiment at a scale.

``reference_*`` is what the authors' published scripts do, defects included; ``corrected_*`` is what the paper's
mathematics says, or a control that the scripts cannot express because they tie level, relaxation and data together. At
``paper`` scale a ``reference_*`` recipe follows the scripts in every value that this list does not name; ``small`` and
``tiny`` keep the method and change only what ``SCALES`` lists.

Where no recipe follows the scripts: batch statistics everywhere, so their second forward pass, which only moves running
statistics, is left out; which half of the images is held out is drawn by the seed, and α's batches walk through a
permutation of it instead of being drawn anew; curves are measured on the first ``evaluation_images`` of a set without
augmentation instead of on the steps of an epoch; checkpoints hold α; averages leave out *none* and what was never
sampled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from nas_core.config import AlphaConfig, SearchConfig, ThetaConfig
from nas_core.data import DataConfig
from nas_core.estimation import EstimatorConfig
from nas_core.lab import estimator_recipes, variations
from nas_core.lab.ablations import ABLATIONS, Ablation
from nas_core.operations import Normalization
from nas_core.relaxation import Darts, Dsnas, Proxyless, RandomReward, Relaxation, Snas, Uniform
from nas_core.space import Cell, darts, minimal
from nas_core.supernet import NetworkConfig
from nas_core.verification import EnumerationConfig


@dataclass(frozen=True)
class Scale:
    """How far an experiment is cut down: images, network and pace; ``None`` takes the paper's value.

    ``cells`` and ``deep_cell`` stand where the paper has eight cells of four nodes; where it has one minimal cell, so
    has every scale. ``epochs`` multiplies the number of epochs, ``alpha_rate`` α's learning rate: a short search gives
    α far fewer steps."""

    images: int | None
    size: int | None
    label_noise: float
    augment: str
    cells: int
    deep_cell: Cell
    batch_size: int | None
    epochs: float
    alpha_rate: float
    evaluation_images: int | None
    evaluation_every: int


SCALES = {
    # Digits are learned without a gap between training and held-out images, so P3 has no cause there; label noise
    # restores one.
    "tiny": Scale(400, None, 0.4, "none", 2, minimal(), 32, 0.6, 100.0, 128, 4),
    "small": Scale(2000, 16, 0.0, "crop-flip", 2, minimal(), 64, 1.0, 100 / 3, 512, 2),
    "paper": Scale(None, None, 0.0, "crop-flip", 8, darts(4), None, 1.0, 1.0, 5000, 1),
}


def _scale(name: str) -> Scale:
    if name not in SCALES:
        raise ValueError(f"scale {name!r} is unknown; allowed are {', '.join(SCALES)}")
    return SCALES[name]


def _base(name: str, *, batch_size: int, epochs: int, held_out: float, alpha: AlphaConfig | None) -> SearchConfig:
    """The part that all experiments share; ``batch_size`` and ``epochs`` are the paper's."""
    scale = _scale(name)
    if alpha is not None:
        alpha = replace(alpha, learning_rate=round(alpha.learning_rate * scale.alpha_rate, 6))
    return SearchConfig(
        network=NetworkConfig(cell=scale.deep_cell, cells=scale.cells),
        data=DataConfig(
            dataset="digits" if name == "tiny" else "cifar10",
            images=scale.images,
            size=scale.size,
            label_noise=scale.label_noise,
            held_out=held_out,
            augment=scale.augment,
        ),
        level="single",
        alpha_data="same",
        alpha=alpha,
        epochs=max(1, round(epochs * scale.epochs)),
        batch_size=scale.batch_size or batch_size,
        evaluation_images=scale.evaluation_images,
        evaluation_every=scale.evaluation_every,
    )


NO_SKIP_BETWEEN_NODES = minimal().without("skip_connect", (2, 3))
BILEVEL_ALPHA = AlphaConfig(initial_mean=0.0, initial_std=1e-3)
SINGLE_ALPHA = AlphaConfig(initial_mean=1.0, initial_std=0.01)


def _darts(name: str, level: str, alpha_data: str) -> SearchConfig:
    """DARTS on the halves of the training set. θ sees the same half under every level and α data, so that these alone
    differ.
    """
    base = _base(name, batch_size=96, epochs=50, held_out=0.5, alpha=BILEVEL_ALPHA)
    return replace(base, relaxation=Darts(), level=level, alpha_data=alpha_data)


def reference_darts_bilevel(scale: str) -> SearchConfig:
    """P3, Figs 13 and 14: α steps first, on held-out images; first order."""
    return _darts(scale, "bi", "held_out")


def reference_darts_curves(scale: str) -> SearchConfig:
    """Figs 10, 22, 23, 25, 26: α fixed at uniform, θ trained on one minimal cell, cost measured on training and search
    images.

    The edge between the two nodes has no *skip_connect*: as in the scripts, so that the costs add up to L − H.
    """
    base = _base(scale, batch_size=64, epochs=50, held_out=0.5, alpha=None)
    return replace(base, network=NetworkConfig(cell=NO_SKIP_BETWEEN_NODES), relaxation=Darts())


def corrected_darts_single(scale: str) -> SearchConfig:
    """The single-level control of P3: θ and α step together on θ's own batch."""
    return _darts(scale, "single", "same")


def corrected_darts_single_held_out(scale: str) -> SearchConfig:
    """B1: the single-level order of steps, with α judged on held-out images."""
    return _darts(scale, "single", "held_out")


def corrected_darts_bilevel_same(scale: str) -> SearchConfig:
    """B1: the bi-level order of steps, with α judged on θ's own batch."""
    return _darts(scale, "bi", "same")


CROSSED: dict[str, Relaxation] = {"darts": Darts(), "snas": Snas(), "dsnas": Dsnas(), "proxylessnas": Proxyless()}
"""B1: the relaxations that are crossed with level and α's images, all else as ``_darts`` has it."""
CROSSED_DATA = ("same", "train", "held_out")


def crossed_name(relaxation: str, level: str, alpha_data: str) -> str:
    """The recipe of one combination of B1; those of DARTS that have a name of their own keep it."""
    own = {
        ("single", "same"): "corrected_darts_single",
        ("single", "held_out"): "corrected_darts_single_held_out",
        ("bi", "same"): "corrected_darts_bilevel_same",
        ("bi", "held_out"): "reference_darts_bilevel",
    }
    if relaxation == "darts" and (level, alpha_data) in own:
        return own[level, alpha_data]
    return f"corrected_{relaxation}_{'bilevel' if level == 'bi' else level}_{alpha_data}"


LONG = {"tiny": 20, "small": 75, "paper": 150}
"""Epochs where the paper has 150. At ``small`` α's learning rate times its steps, which bounds how far log α can travel,
is then the paper's 23."""


def _single(scale: str, relaxation, *, idle: str) -> SearchConfig:
    """SNAS, DSNAS and ProxylessNAS: all training images for θ and α on the same batch, 150 epochs; below the paper's
    scale on cells of half the width.
    """
    base = _base(scale, batch_size=96, epochs=150, held_out=0.0, alpha=SINGLE_ALPHA)
    network = base.network if scale == "paper" else replace(base.network, channels=8)
    theta = ThetaConfig(idle=idle)
    return replace(base, network=network, relaxation=relaxation, theta=theta, epochs=LONG[scale])


def reference_dsnas(scale: str) -> SearchConfig:
    """Figs 11, 12 as the scripts run them: the gradient of log Σ p, rewards clamped to ±5, idle weights moving."""
    return _single(scale, Dsnas(gradient="reference", clamp=5.0), idle="moving")


def corrected_dsnas(scale: str) -> SearchConfig:
    """Figs 11, 12 with the paper's gradient, Σ log p."""
    return _single(scale, Dsnas(), idle="frozen")


def _narrow_and_deep(config: SearchConfig, scale: str, cells: int, nodes: int) -> SearchConfig:
    """Cells of many nodes where a scale has minimal ones: fewer of them, and at ``tiny`` two of three nodes."""
    if scale == "paper":
        return config
    cells, nodes = (2, 3) if scale == "tiny" else (cells, nodes)
    return replace(config, network=replace(config.network, cell=darts(nodes), cells=cells))


def reference_dsnas_deep(scale: str) -> SearchConfig:
    """Figs 11, 12 with the paper's cell of four nodes, in four cells at ``small``."""
    return _narrow_and_deep(reference_dsnas(scale), scale, cells=4, nodes=4)


def reference_snas_deep(scale: str) -> SearchConfig:
    """Figs 1, 3 with the paper's cell of four nodes, in two cells at ``small``."""
    return _narrow_and_deep(reference_snas(scale), scale, cells=2, nodes=4)


def reference_snas(scale: str) -> SearchConfig:
    """Figs 1, 3: SNAS at temperature 1."""
    return _single(scale, Snas(), idle="frozen")


def corrected_proxylessnas(scale: str) -> SearchConfig:
    """ProxylessNAS in the setting of SNAS; the scripts have no such run."""
    return _single(scale, Proxyless(), idle="frozen")


def corrected_proxylessnas_deep(scale: str) -> SearchConfig:
    """ProxylessNAS with the paper's cell of four nodes, in two cells at ``small``."""
    return _narrow_and_deep(corrected_proxylessnas(scale), scale, cells=2, nodes=4)


def _darts_deep(scale: str, level: str, alpha_data: str) -> SearchConfig:
    """DARTS on cells of four nodes; below the paper's scale of half the width, like the single-level searches."""
    config = _narrow_and_deep(_darts(scale, level, alpha_data), scale, cells=2, nodes=4)
    return config if scale == "paper" else replace(config, network=replace(config.network, channels=8))


def reference_darts_bilevel_deep(scale: str) -> SearchConfig:
    """P3, Figs 13 and 14, with the paper's cell of four nodes, in two cells at ``small``."""
    return _darts_deep(scale, "bi", "held_out")


def corrected_darts_single_deep(scale: str) -> SearchConfig:
    """The single-level control of P3 on the paper's cell of four nodes, in two cells at ``small``."""
    return _darts_deep(scale, "single", "same")


def corrected_dsnas_no_decay(scale: str) -> SearchConfig:
    """B3: the paper's gradient, and no weight decay on α."""
    config = corrected_dsnas(scale)
    assert config.alpha is not None  # a search trains α
    return replace(config, alpha=replace(config.alpha, weight_decay=0.0))


def corrected_dsnas_baseline(scale: str) -> SearchConfig:
    """B3: the paper's gradient with a running mean of each edge's reward as its baseline."""
    return _single(scale, Dsnas(baseline=0.9), idle="frozen")


def corrected_dsnas_reference_gradient(scale: str) -> SearchConfig:
    """B3: the scripts' gradient alone, with rewards as they are and idle weights frozen."""
    return _single(scale, Dsnas(gradient="reference"), idle="frozen")


def corrected_random_reward(scale: str) -> SearchConfig:
    """B7: DSNAS whose cost gets a random sign at every step."""
    return _single(scale, RandomReward(), idle="frozen")


PASSES = {"tiny": 8, "small": 25, "paper": 50}
"""Epochs of cost with θ and α fixed."""


def _statistics(
    scale: str,
    trained: bool,
    idle: str,
    network: NetworkConfig | None = None,
    relaxation: Relaxation | None = None,
) -> SearchConfig:
    """θ under uniform sampling, on the minimal cell unless told otherwise, then epochs of cost with θ and α fixed."""
    base = _base(scale, batch_size=96, epochs=150, held_out=0.0, alpha=None)
    return replace(
        base,
        network=network or NetworkConfig(),
        relaxation=relaxation or Uniform(),
        theta=ThetaConfig(idle=idle) if trained else None,
        epochs=LONG[scale] if trained else 0,
        statistics_epochs=PASSES[scale],
    )


def reference_cost_initial(scale: str) -> SearchConfig:
    """Fig 4(a): the cost at initialisation."""
    return _statistics(scale, False, "frozen")


def reference_cost_trained(scale: str) -> SearchConfig:
    """Figs 4(b), 7, 21: 150 epochs of θ with idle weights moving, then the cost."""
    return _statistics(scale, True, "moving")


def corrected_cost_trained(scale: str) -> SearchConfig:
    """Fig 4(b) with weights that move only when the sample uses them."""
    return _statistics(scale, True, "frozen")


def corrected_cost_shuffled(scale: str) -> SearchConfig:
    """B7: Fig 4(b) on labels that say nothing: nine of ten are another class, so each class is as likely as the right one."""
    config = reference_cost_trained(scale)
    return replace(config, data=replace(config.data, label_noise=0.9))


def corrected_cost_plain(scale: str) -> SearchConfig:
    """Fig 4(b) without augmentation: whether the padding of cropped images moves the sign of the cost."""
    config = reference_cost_trained(scale)
    return replace(config, data=replace(config.data, augment="none"))


def _stack(scale: str, deep: bool) -> NetworkConfig:
    """Eight cells, minimal or (``deep``) of four nodes; ``small`` narrows them, ``tiny`` takes three of two nodes."""
    cell = darts(4) if deep else minimal()
    sizes = {
        "tiny": NetworkConfig(cells=3, channels=4, cell=darts(3) if deep else minimal()),
        "small": NetworkConfig(cells=8, channels=4 if deep else 8, cell=cell),
        "paper": NetworkConfig(cells=8, cell=cell),
    }
    _scale(scale)
    return sizes[scale]


def reference_stack_initial(scale: str) -> SearchConfig:
    """Fig 15(a): the cost in a stack of minimal cells at initialisation."""
    return _statistics(scale, False, "frozen", _stack(scale, deep=False))


def reference_stack_trained(scale: str) -> SearchConfig:
    """Figs 15(b) and 19: the stack of minimal cells after training."""
    return _statistics(scale, True, "moving", _stack(scale, deep=False))


def _deep_stack(scale: str, trained: bool) -> SearchConfig:
    """A stack of cells of four nodes; ``small`` has a third of the epochs of θ and of the cost."""
    config = _statistics(scale, trained, "moving" if trained else "frozen", _stack(scale, deep=True))
    if scale != "small":
        return config
    return replace(config, epochs=config.epochs // 3, statistics_epochs=8)


def reference_deep_stack_initial(scale: str) -> SearchConfig:
    """Fig 16(a): the cost in a stack of cells of four nodes at initialisation."""
    return _deep_stack(scale, False)


def reference_deep_stack_trained(scale: str) -> SearchConfig:
    """Fig 16(b): the stack of cells of four nodes after training."""
    return _deep_stack(scale, True)


def _normalized(kind: str, affine: bool) -> NetworkConfig:
    return NetworkConfig(normalization=Normalization(kind, affine))


VARIANTS: dict[str, tuple[str, NetworkConfig]] = {
    "instance_affine": ("H.1: instance normalisation with affine parameters", _normalized("instance", True)),
    "layer_affine": ("H.1: layer normalisation with affine parameters", _normalized("layer", True)),
    "instance": ("Fig 29: instance normalisation without affine parameters", _normalized("instance", False)),
    "conv_relu_norm": ("Fig 30: the order convolution, ReLU, normalisation", NetworkConfig(order="conv-relu-norm")),
    "conv_norm_relu": ("Fig 31: the order convolution, normalisation, ReLU", NetworkConfig(order="conv-norm-relu")),
}
"""What Appendix H changes in the minimal cell: name → words, network."""


def _made() -> dict[str, Callable[[str], SearchConfig]]:
    """Recipes of the tables: the combinations of B1, the settings of Section 5.3, and the variants of Appendix H before and
    after training."""

    def recipe(name: str, words: str, build: Callable[[str], SearchConfig]) -> Callable[[str], SearchConfig]:
        build.__name__, build.__doc__ = name, words + "."
        return build

    made = {}
    for relaxation, level, data in itertools.product(CROSSED, ("single", "bi"), CROSSED_DATA):

        def crossing(scale: str, relaxation: str = relaxation, level: str = level, data: str = data) -> SearchConfig:
            return replace(_darts(scale, level, data), relaxation=CROSSED[relaxation])

        name = crossed_name(relaxation, level, data)
        words = {"same": "θ's own batch", "train": "another batch of θ's images", "held_out": "held-out images"}[data]
        made[name] = recipe(name, f"B1: {relaxation}, {level} level, α judged on {words}", crossing)
    for name, own in ABLATIONS.items():
        idle = "moving" if name.startswith("reference") else "frozen"
        words = f"Fig {own.figure}: {own.words}" if own.figure else f"A control of Section 5.3: {own.words}"

        def ablation(scale: str, own: Ablation = own, idle: str = idle) -> SearchConfig:
            return _statistics(scale, True, idle, NetworkConfig(cell=own.cell), own.relaxation)

        made[name] = recipe(name, words, ablation)
    for variant, (words, network) in VARIANTS.items():
        for trained, when in ((False, "initial"), (True, "trained")):
            name = f"reference_{variant}_{when}"

            def variation(scale: str, trained: bool = trained, network: NetworkConfig = network) -> SearchConfig:
                return _statistics(scale, trained, "moving" if trained else "frozen", network)

            made[name] = recipe(name, f"{words}, {'after' if trained else 'before'} training", variation)
    return made


def _alone(scale: str, kept: tuple[tuple[int, int], ...]) -> SearchConfig:
    """θ of a single wiring of the minimal cell: *sep_conv_3x3* on the edges in ``kept``, *none* elsewhere."""
    cell = minimal()
    for edge in cell.edges:
        ends = (edge.source, edge.target)
        cell = cell.fix(ends, "sep_conv_3x3" if ends in kept else "none")
    network = NetworkConfig(cell=cell, cells=8 if scale == "paper" else _scale(scale).cells)
    return replace(_statistics(scale, True, "frozen", network), statistics_epochs=0)


def corrected_alone_wide(scale: str) -> SearchConfig:
    """B6: three convolutions side by side, all on input edges; every other edge is gone."""
    return _alone(scale, ((0, 2), (0, 3), (1, 3)))


def corrected_alone_deep(scale: str) -> SearchConfig:
    """B6: three convolutions of which one follows the other two; every other edge is gone."""
    return _alone(scale, ((0, 2), (1, 2), (2, 3)))


def corrected_bilevel_decay(scale: str) -> SearchConfig:
    """B2: bi-level search whose θ is regularised by thirty times the weight decay."""
    config = reference_darts_bilevel(scale)
    assert config.theta is not None  # a search trains θ
    return replace(config, theta=replace(config.theta, weight_decay=30 * config.theta.weight_decay))


RECIPES: dict[
    str, Callable[[str], SearchConfig] | Callable[[str], EstimatorConfig] | Callable[[str], EnumerationConfig]
] = (
    _made()
    | {
        recipe.__name__: recipe
        for recipe in (
            reference_darts_bilevel,
            reference_darts_curves,
            corrected_darts_single,
            corrected_darts_single_held_out,
            corrected_darts_bilevel_same,
            reference_dsnas,
            corrected_dsnas,
            reference_snas,
            corrected_proxylessnas,
            reference_cost_initial,
            reference_cost_trained,
            corrected_cost_trained,
            reference_dsnas_deep,
            reference_snas_deep,
            corrected_proxylessnas_deep,
            reference_darts_bilevel_deep,
            corrected_darts_single_deep,
            corrected_dsnas_no_decay,
            corrected_dsnas_baseline,
            corrected_dsnas_reference_gradient,
            corrected_random_reward,
            corrected_cost_shuffled,
            corrected_cost_plain,
            corrected_alone_wide,
            corrected_alone_deep,
            corrected_bilevel_decay,
            reference_stack_initial,
            reference_stack_trained,
            reference_deep_stack_initial,
            reference_deep_stack_trained,
        )
    }
    | variations.recipes(corrected_dsnas, reference_darts_bilevel, corrected_darts_single)
    | estimator_recipes.RECIPES
)
"""Every recipe by name."""
