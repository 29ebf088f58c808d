"""From a notebook's parameters to recorded runs: the one call of a chapter that may compute."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nas_core.data import DataError
from nas_core.lab.code import LabError
from nas_core.lab.experiments import experiment_of, has_recorded, settle
from nas_core.lab.store import Job, MissingResult, Result, State, Store
from nas_core.lab.sweep import mode_of, obtain
from nas_core.pages.parameters import ParameterError, Parameters

EXPERIMENT = "search"
SEEDS = (0, 1, 2, 3, 4)
"""The seeds of a chapter that names none and finds none recorded."""

Say = Callable[[str], None]


def collect(parameters: Parameters, recipes: Mapping[str, str], say: Say = print) -> dict[str, list[Result]]:
    """The runs of every recipe, by label: recorded ones are read, missing ones computed as ``NAS_RESULTS`` allows.

    Without ``seeds`` it takes those recorded for all of the recipes, or else five, as many of them as fit into
    ``minutes``. Every label gets the same seeds, so that runs can be paired. Raises :class:`ParameterError` for values
    that a recipe cannot take.
    """
    store = Store()
    jobs = _jobs(parameters, recipes, store, say)
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


def collect_recorded(parameters: Parameters, recipes: Mapping[str, str], say: Say = print) -> dict[str, list[Result]]:
    """As :func:`collect` for the parts of a chapter that go beyond its claim: with ``NAS_RESULTS=auto`` a label that is
    not recorded for these parameters is left out, with the command that computes it, instead of making a reader
    wait."""
    store, kept, mode = Store(), dict(recipes), mode_of()
    if mode == "auto":
        for label, own in _jobs(parameters, recipes, store, lambda words: None).items():
            absent = [job for job in own if store.state(job) is not State.FRESH]
            if absent:
                say(f"{label}: left out. {store.missing(absent)}")
                del kept[label]
    # What is only read needs no word; what is computed says how long it takes.
    return collect(parameters, kept, say if mode == "refresh" else lambda words: None) if kept else {}


def recorded(
    parameters: Parameters, recipes: Mapping[str, str], say: Say = lambda words: None
) -> dict[str, list[Result]]:
    """The recorded runs of every recipe, by label, each with the seeds that it has; a label without any is left out,
    whatever ``NAS_RESULTS`` says: a sweep, or a table of all claims, shows what there is."""
    found: dict[str, list[Result]] = {}
    store = Store()
    for label, recipe in recipes.items():
        # Told from the store alone: to settle the data of what is not recorded would read the data, once a recipe.
        if has_recorded(recipe, parameters.scale, experiment_of(recipe), store, **parameters.overrides()):
            with contextlib.suppress(MissingResult):
                found |= collect_recorded(parameters, {label: recipe}, say)
        if label not in found:
            say(f"{label}: not recorded.")
    return found


def variations(
    parameters: Parameters, recipe: str, name: str, values: Mapping[str, Any], say: Say = print
) -> dict[str, list[Result]]:
    """The recorded runs of one recipe under several values of the parameter ``name``, by label."""
    found: dict[str, list[Result]] = {}
    for label, value in values.items():
        found |= collect_recorded(replace(parameters, **{name: value}), {label: recipe}, say)
    return found


def _jobs(parameters: Parameters, recipes: Mapping[str, str], store: Store, say: Say) -> dict[str, list[Job]]:
    """One job a label and seed, with the data settled."""
    configs, taken = {}, {}
    for label, recipe in recipes.items():
        configs[label], taken[label] = _settle(parameters, recipe, store)
    for sentence in dict.fromkeys(taken.values()):
        say(sentence)
    seeds = (
        parameters.seeds
        or _recorded_seeds(store, [(experiment_of(recipes[label]), config) for label, config in configs.items()])
        or SEEDS
    )
    return {
        label: [Job(experiment_of(recipes[label]), config, seed, recipes[label], parameters.scale) for seed in seeds]
        for label, config in configs.items()
    }


def _settle(parameters: Parameters, recipe: str, store: Store) -> tuple[Any, str]:
    try:
        return settle(
            recipe, parameters.scale, experiment_of(recipe), store, parameters.dataset, **parameters.overrides()
        )
    except (LabError, DataError) as error:
        raise ParameterError(str(error)) from error


def _recorded_seeds(store: Store, configs: list[tuple[str, Any]]) -> tuple[int, ...]:
    """The seeds that are FRESH for every configuration."""
    fresh = [
        {seed for seed, state in store.seeds(experiment, config).items() if state is State.FRESH}
        for experiment, config in configs
    ]
    return tuple(sorted(set.intersection(*fresh)))
