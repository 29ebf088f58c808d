"""One's own search method under the lens of Section 3: does it grow (P1), prefer width (P2), fail in bi-level search (P3), and
what do its operations cost meanwhile?

>>> from nas_core.audit import audit
>>> found = audit(MyMethod(), scale="tiny", seeds=range(3))  # doctest: +SKIP
>>> found.single.wide, found.single.p_width  # doctest: +SKIP

A method is a relaxation, an object with the two functions ``sample`` and ``alpha_gradient`` of :mod:`nas_core.relaxation`
(:class:`~nas_core.methods.Method`) and, if it is annealed, the third, ``at``; or a plain function that trains by itself: ``train(cell, seed)`` returns p_α
``[R, E, K]``, one record before training and one after every epoch, or a mapping of ``probability`` and, if known,
``cost`` ``[R - 1, E, K]``. Z need not sum to 1 over an edge; where
p_α is not the softmax of log α, the method says what it is by a function ``probability(log_alpha)``.

Letters in shapes: s runs, R records, N cells, G groups of cells that share α, E edges, K operations. Epoch 0 is left out of
drops and recoveries: α starts at random.
"""

from __future__ import annotations

import hashlib
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from nas_core import search
from nas_core.config import AlphaConfig, SearchConfig
from nas_core.data import DataConfig, auto
from nas_core.methods import AuditError, Method, Train, call_of, check, is_relaxation, name_of, with_at
from nas_core.patterns import Measures
from nas_core.relaxation import Darts, Dsnas, Proxyless, Relaxation, Snas, masked
from nas_core.space import Cell, minimal
from nas_core.supernet import NetworkConfig

SINGLE, BILEVEL = "single", "bi"
LEVELS = (SINGLE, BILEVEL)


@dataclass(frozen=True)
class Run:
    """One search: its arrays, and a ``meta`` as recorded results have it."""

    arrays: Mapping[str, np.ndarray]
    meta: dict[str, Any]


# -- settings: those of the recorded searches ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """What differs between scales; epochs are those of the single-level and of the bi-level search. Two seeds at ``tiny``,
    the fewest that show a spread, keep a first try short."""

    data: DataConfig
    batch_size: int
    epochs: tuple[int, int]
    alpha_rate: float
    seeds: tuple[int, ...]


SCALES = {
    "tiny": Scale(DataConfig("digits", images=400, label_noise=0.4), 32, (20, 30), 0.03, (0, 1)),
    "small": Scale(
        DataConfig("cifar10", images=2000, size=16, augment="crop-flip"), 64, (75, 50), 0.01, (0, 1, 2, 3, 4)
    ),
}


def scale_of(name: str) -> Scale:
    """The scale of this name. Raises :class:`~nas_core.methods.AuditError`."""
    if name not in SCALES:
        raise AuditError(f"the scale is {name!r}; give one of {', '.join(SCALES)}")
    return SCALES[name]


def setting(
    level: str = SINGLE,
    scale: str = "tiny",
    cell: Cell | None = None,
    epochs: int | None = None,
    images: int | None = None,
) -> SearchConfig:
    """The search that a method is put into: single-level as the recorded SNAS, DSNAS and ProxylessNAS, bi-level as the recorded
    DARTS, so that the relaxation alone differs. Only the first and the last epoch are evaluated. Raises
    :class:`~nas_core.methods.AuditError`.
    """
    if level not in LEVELS:
        raise AuditError(f"the level is {level!r}; give one of {', '.join(LEVELS)}")
    own, single = scale_of(scale), level == SINGLE
    length = own.epochs[0 if single else 1] if epochs is None else epochs
    more: dict[str, Any] = {"images": images} if images else {}
    try:
        alpha = AlphaConfig(
            learning_rate=own.alpha_rate, initial_mean=float(single), initial_std=0.01 if single else 1e-3
        )
        return SearchConfig(
            network=NetworkConfig(cell=cell or minimal(), cells=2, channels=8 if single else 16),
            data=replace(_images_of(own), held_out=0.0 if single else 0.5, **more),
            level=level,
            alpha_data="same" if single else "held_out",
            alpha=alpha,
            epochs=length,
            batch_size=own.batch_size,
            evaluation_images=own.batch_size,
            evaluation_every=max(1, length),
        )
    except ValueError as error:
        raise AuditError(f"there is no such search: {error}") from error


def _images_of(scale: Scale) -> DataConfig:
    """The scale's data; CIFAR-10 where this machine has it, else the digits that stand in for it."""
    if scale.data.dataset == "digits":
        return scale.data
    name = auto()
    return SCALES["tiny"].data if name == "digits" else replace(scale.data, dataset=name)


# -- running it ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """One search to run, as it travels to another process."""

    method: Any
    config: SearchConfig
    seed: int
    scale: str

    def __call__(self) -> Run:
        started = time.perf_counter()
        arrays = search.run(replace(self.config, relaxation=self.method), self.seed)
        arrays["probability"] = _probability(self.method, arrays, self.config)
        return Run(
            arrays, _meta(name_of(self.method), self.config, self.seed, self.scale, time.perf_counter() - started)
        )


def _probability(method: Any, arrays: Mapping[str, np.ndarray], config: SearchConfig) -> np.ndarray:
    """``[R, G, E, K]``: p_α at every record, by the method's own word: a search records the softmax."""
    if not callable(getattr(method, "probability", None)):
        return arrays["probability"]
    rows = []
    for epoch, log_alpha in enumerate(torch.from_numpy(arrays["log_alpha"])):
        now = method.at(min(1.0, epoch / max(1, config.epochs - 1)))
        rows.append(now.probability(masked(log_alpha, config.network.cell)))
    return torch.stack(rows).numpy()


def _meta(name: str, config: SearchConfig, seed: int, scale: str, seconds: float) -> dict[str, Any]:
    plain = {"network": asdict(config.network), "data": asdict(config.data)}
    plain |= {own: getattr(config, own) for own in ("level", "alpha_data", "epochs", "batch_size")}
    return {
        "ident": hashlib.sha256(repr((name, plain)).encode()).hexdigest()[:12],
        "seed": seed, "code": "run live", "recipe": None, "scale": scale, "config": plain,
        "dataset": {"name": config.data.dataset}, "device": "cpu", "torch": torch.__version__, "seconds": seconds,
    }  # fmt: skip


@dataclass(frozen=True)
class _Trained:
    """One call of a training function, as a run."""

    method: Train
    cell: Cell
    seed: int
    scale: str

    def __call__(self) -> Run:
        started, name = time.perf_counter(), name_of(self.method)
        given = call_of(name, "__call__", self.method, self.cell, self.seed)
        given = dict(given) if isinstance(given, Mapping) else {"probability": given}
        if "probability" not in given:
            raise AuditError(
                f"{name} returned {', '.join(map(str, given)) or 'nothing'}; it must return p_α as 'probability'"
            )
        mask = np.array(self.cell.mask())
        p = self._array(name, "probability", given["probability"], mask.shape, 2)
        if (p < 0).any() or (p[:, ~mask] != 0).any():
            raise AuditError(f"{name} returned a p_α that is negative, or not 0 where an edge lacks the operation")
        arrays = {"probability": p[:, None]}
        if given.get("cost") is not None:
            cost = self._array(name, "cost", given["cost"], mask.shape, 1)
            if len(cost) != len(p) - 1:
                raise AuditError(
                    f"{name} returned {len(cost)} records of the cost; give one an epoch, {len(p) - 1} of them"
                )
            arrays["step_cost_mean"] = np.where(mask, cost, np.nan)[:, None]
        config = replace(setting(SINGLE, "tiny", self.cell), epochs=len(p) - 1)
        meta = _meta(name, config, self.seed, self.scale, time.perf_counter() - started)
        return Run(arrays, meta | {"dataset": {"name": "the method's own data"}, "own": True})

    def _array(self, name: str, what: str, given: Any, last: tuple[int, ...], least: int) -> np.ndarray:
        try:
            array = np.asarray(given, dtype=float)
        except (TypeError, ValueError) as error:
            raise AuditError(f"{name} returned a {what} that is no array of numbers: {error}") from error
        if array.ndim != 3 or array.shape[1:] != last or len(array) < least:
            raise AuditError(
                f"{name} returned a {what} of shape {array.shape}; for the {self.cell.name} cell give (records, {last[0]}, "
                f"{last[1]}) with at least {least}"
            )
        if not np.isfinite(array).all():
            raise AuditError(f"{name} returned a {what} that is not finite")
        return array


def audit(
    method: Method | Train,
    cell: Cell | None = None,
    *,
    scale: str = "tiny",
    seeds: Iterable[int] | None = None,
    levels: Sequence[str] = LEVELS,
    epochs: int | None = None,
    images: int | None = None,
    minutes: float | None = None,
    each: Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]] = map,
    workers: int = 1,
    say: Callable[[str], None] = lambda words: None,
) -> Audit:
    """Search ``cell`` (default :func:`~nas_core.space.minimal`) with ``method`` and measure P1 to P3 and the cost.

    ``levels``: ``"single"`` for P1 and P2, ``"bi"`` for P3; a training function runs once a seed as it is. ``epochs`` and
    ``images`` replace the scale's. Of ``seeds`` (None: the scale's) as many are run as fit into ``minutes`` (None: all) of ``workers``
    processes, at least one; ``each`` maps a function over the runs, in this process unless another mapping is given.

    Raises :class:`~nas_core.methods.AuditError` for a bad method or request, and what :func:`nas_core.search.run` raises."""
    cell = cell or minimal()
    if not isinstance(cell, Cell):
        raise AuditError(f"the cell is {cell!r}; give a nas_core.space.Cell, such as minimal(), or None")
    kept = _checked_seeds(scale_of(scale).seeds if seeds is None else seeds)
    check(method, cell)
    if not is_relaxation(method):
        train = cast(Train, method)
        tasks: dict[str, list[Any]] = {SINGLE: [_Trained(train, cell, seed, "its own") for seed in kept]}
    else:
        method = with_at(method)
        settings = {level: setting(level, scale, cell, epochs, images) for level in levels}
        if not settings:
            raise AuditError(f"levels is empty; give one or both of {', '.join(LEVELS)}")
        kept = _affordable(method, settings, kept, minutes, workers, say)
        tasks = {level: [_Task(method, own, seed, scale) for seed in kept] for level, own in settings.items()}
    # Seed by seed, so that processes have runs of both lengths to share.
    flat = [task for row in zip(*tasks.values(), strict=True) for task in row]
    done = list(each(_run, flat))
    return Audit(name_of(method), cell, {level: done[place :: len(tasks)] for place, level in enumerate(tasks)})


def _run(task: Callable[[], Run]) -> Run:
    return task()


def _checked_seeds(seeds: Iterable[int]) -> list[int]:
    kept = list(seeds)
    if not kept or len(set(kept)) != len(kept) or any(type(seed) is not int or seed < 0 for seed in kept):
        raise AuditError(f"the seeds are {kept}; give distinct whole numbers of at least 0, such as range(3)")
    return kept


def _affordable(
    method: Any,
    settings: Mapping[str, SearchConfig],
    seeds: list[int],
    minutes: float | None,
    workers: int,
    say: Callable[[str], None],
) -> list[int]:
    if minutes is None:
        return seeds
    one = sum(search.estimate(replace(own, relaxation=method)) for own in settings.values())
    fit = max(1, min(len(seeds), int(60 * minutes * workers / one)))
    say(
        f"{name_of(method)}: {one:.0f} s a seed on one core, {fit} of {len(seeds)} seeds fit into {minutes:g} minutes "
        f"of {workers} process{'es' if workers > 1 else ''}."
    )
    return seeds[:fit]


FRAMEWORKS: dict[str, Relaxation] = {"DARTS": Darts(), "SNAS": Snas(), "DSNAS": Dsnas(), "ProxylessNAS": Proxyless()}
"""The paper's four, to stand beside a method."""


def frameworks(cell: Cell | None = None, **request: Any) -> list[Audit]:
    """The four frameworks, searched in the same way; ``request`` as for :func:`audit`."""
    return [replace(audit(own, cell, **request), name=name) for name, own in FRAMEWORKS.items()]


@dataclass(frozen=True)
class Audit:
    """What came of a method: its name, the cell, and the runs of each level."""

    name: str
    cell: Cell
    runs: Mapping[str, Sequence[Any]]

    def measures(self, level: str) -> Measures:
        """The measures at one level. Raises :class:`~nas_core.methods.AuditError` if it was not run."""
        if not self.runs.get(level):
            raise AuditError(
                f"{self.name} was not run at level {level!r}; there is {', '.join(self.runs) or 'nothing'}"
            )
        return Measures(self.cell, self.runs[level])

    @property
    def single(self) -> Measures:
        """Of the single-level runs: P1 and P2."""
        return self.measures(SINGLE)

    @property
    def bilevel(self) -> Measures:
        """Of the bi-level runs: P3."""
        return self.measures(BILEVEL)


class _Callable(types.ModuleType):
    """The module and its function have one name: ``nas_core.audit(method)`` shall work whichever of them it finds."""

    __call__ = staticmethod(audit)


sys.modules[__name__].__class__ = _Callable
