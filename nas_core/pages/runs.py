"""From a notebook's parameters to recorded runs: the one call of a chapter that may compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nas_core.data import DataError
from nas_core.lab.code import LabError
from nas_core.lab.experiments import settle
from nas_core.lab.store import Job, Result, State, Store
from nas_core.lab.sweep import obtain
from nas_core.pages.parameters import ParameterError, Parameters

EXPERIMENT = "search"
SEEDS = (0, 1, 2, 3, 4)
"""The seeds of a chapter that names none and finds none recorded."""


def collect(
    parameters: Parameters, recipes: Mapping[str, str], say: Callable[[str], None] = print
) -> dict[str, list[Result]]:
    """The runs of every recipe, by label: recorded ones are read, missing ones computed as ``NAS_RESULTS`` allows.

    Without ``seeds`` it takes those recorded for all of the recipes, or else five, as many of them as fit into ``minutes``. Every label
    gets the same seeds, so that runs can be paired. Raises :class:`ParameterError` for values that the recipe cannot take.
    """
    store = Store()
    configs, taken = {}, {}
    for label, recipe in recipes.items():
        configs[label], taken[label] = _settle(parameters, recipe, store)
    for sentence in dict.fromkeys(taken.values()):
        say(sentence)
    seeds = parameters.seeds or _recorded_seeds(store, configs.values()) or SEEDS
    jobs = {
        label: [Job(EXPERIMENT, config, seed, recipes[label], parameters.scale) for seed in seeds]
        for label, config in configs.items()
    }
    results = obtain(
        [job for own in jobs.values() for job in own],
        workers=parameters.workers,
        store=store,
        minutes=parameters.minutes,
        device=parameters.device,
        progress=say,
    )
    found = {(result.meta["ident"], result.meta["seed"]): result for result in results}
    return {
        label: [found[key] for job in own if (key := (store.folder(job).name, job.seed)) in found]
        for label, own in jobs.items()
    }


def _settle(parameters: Parameters, recipe: str, store: Store) -> tuple[Any, str]:
    try:
        return settle(recipe, parameters.scale, EXPERIMENT, store, parameters.dataset, **parameters.overrides())
    except (LabError, DataError) as error:
        raise ParameterError(str(error)) from error


def _recorded_seeds(store: Store, configs) -> tuple[int, ...]:
    """The seeds that are FRESH for every configuration."""
    fresh = [
        {seed for seed, state in store.seeds(EXPERIMENT, config).items() if state is State.FRESH} for config in configs
    ]
    return tuple(sorted(set.intersection(*fresh)))


def variations(
    parameters: Parameters, recipe: str, name: str, values, say: Callable[[str], None] = print
) -> dict[Any, list[Result]]:
    """The runs of one recipe under several values of one parameter, by value."""
    return {value: collect(replace(parameters, **{name: value}), {"": recipe}, say)[""] for value in values}
