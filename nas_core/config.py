"""What defines a search: frozen dataclasses of plain values.

Three switches that the published scripts tie together are independent here:

``level``
    ``"single"``: θ and α take their gradients at the same point. ``"bi"``: α moves first, then θ sees the new α.
``relaxation``
    how Z is drawn from α and what gradient α gets (:mod:`nas_core.relaxation`).
``alpha_data``
    ``"same"``: α is judged on θ's own batch. ``"train"``: on a fresh batch of θ's images. ``"held_out"``: on a batch
    that θ never sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nas_core.data import DataConfig
from nas_core.relaxation import Darts, Proxyless, Relaxation
from nas_core.supernet import NetworkConfig

LEVELS = ("single", "bi")
ALPHA_DATA = ("same", "train", "held_out")


@dataclass(frozen=True)
class ThetaConfig:
    """SGD for the weights; the learning rate follows a cosine from ``learning_rate`` to ``final_learning_rate``, one
    step an epoch.

    ``idle`` says what happens to weights that the sample did not use: ``"frozen"``, as PyTorch does today, or
    ``"moving"``: momentum and weight decay go on, as they did in the PyTorch of 2019 under the published scripts."""

    learning_rate: float = 0.025
    final_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0
    idle: str = "frozen"

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"theta's learning_rate is {self.learning_rate}; give a number above 0")
        if self.idle not in ("frozen", "moving"):
            raise ValueError(f"idle is {self.idle!r}; allowed are frozen, moving")


@dataclass(frozen=True)
class AlphaConfig:
    """Adam for log α, which starts at ``initial_mean`` + ``initial_std``·N(0, 1);

    ``clip`` bounds the gradient's norm (None: not).
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    clip: float | None = 10.0
    initial_mean: float = 0.0
    initial_std: float = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if not self.learning_rate > 0:
            raise ValueError(f"alpha's learning_rate is {self.learning_rate}; give a number above 0")


@dataclass(frozen=True)
class SearchConfig:
    """Everything that defines a search but its seed and its machine.

    ``theta=None`` leaves the weights at their initial values, ``alpha=None`` leaves α uniform. ``statistics_epochs``
    more passes over the training images follow at the end, with θ and α fixed (Fig 4). Every ``evaluation_every``
    epochs, ``evaluation_images`` images (None: all) of the training and of the held-out set are measured without
    augmentation; without a held-out set the test images stand in."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    relaxation: Relaxation = field(default_factory=Darts)
    level: str = "bi"
    alpha_data: str = "held_out"
    theta: ThetaConfig | None = field(default_factory=ThetaConfig)
    alpha: AlphaConfig | None = field(default_factory=AlphaConfig)
    epochs: int = 50
    statistics_epochs: int = 0
    batch_size: int = 64
    evaluation_images: int | None = None
    evaluation_every: int = 1
    second_order: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("level", LEVELS), ("alpha_data", ALPHA_DATA)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        for name, least in (("epochs", 0), ("statistics_epochs", 0), ("batch_size", 2), ("evaluation_every", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; give a whole number of at least {least}")
        if self.evaluation_images is not None and self.evaluation_images < 2:
            raise ValueError(f"evaluation_images is {self.evaluation_images}; give at least 2, or None for all")
        if self.epochs == 0 and self.statistics_epochs == 0:
            raise ValueError(
                "epochs and statistics_epochs are both 0, so there is nothing to do; give one of them at least 1"
            )
        if self.alpha is not None and self.alpha_data == "held_out" and self.data.held_out == 0:
            raise ValueError(
                "alpha_data is 'held_out', but data.held_out is 0; set some images aside for α, "
                "or choose 'same' or 'train'"
            )
        if self.second_order and not (self.level == "bi" and self.alpha and self.theta):
            raise ValueError("second_order needs level 'bi' and both θ and α trained; switch it off or change those")
        if self.second_order and isinstance(self.relaxation, Proxyless):
            raise ValueError(
                "second_order cannot be had with ProxylessNAS, whose cost covers paths that do not run; "
                "use another relaxation"
            )
