"""What can be run: the table of experiments, their recipes' configurations, the data they take, and what they cost.

An experiment is a function `run(config, seed, *, device, checkpoint, progress) -> arrays`, written "module:function" so
that it can travel to another process; beside it its module has `estimate(config, *, device) -> seconds` of one run.
"""

import dataclasses
import difflib
import importlib
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nas_core.lab.code import LabError

if TYPE_CHECKING:
    from nas_core.lab.store import Store

EXPERIMENTS = {
    "search": "nas_core.search:run",
    "estimators": "nas_core.estimation:run",
    "enumeration": "nas_core.verification:run",
}
SCALES = ("tiny", "small", "paper")


def module_of(experiment: str, table: Mapping[str, str]) -> str:
    """The module that holds an experiment. Raises LabError for a name that the table lacks."""
    if experiment not in table:
        raise LabError(f"There is no experiment {experiment!r}; there is {', '.join(sorted(table))}.")
    return table[experiment].partition(":")[0]


def experiment_of(recipe: str) -> str:
    """The experiment that a recipe configures: what its attribute `experiment` says, else a search."""
    from nas_core.lab.recipes import RECIPES  # late, as in `configure`, which also refuses an unknown name

    return getattr(RECIPES.get(recipe), "experiment", "search")


def estimate(experiment: str, config: Any, *, device: str = "cpu", table: Mapping[str, str] | None = None) -> float:
    """Seconds that one run of `experiment` with `config` takes here, as the experiment's own module estimates them."""
    module = importlib.import_module(module_of(experiment, EXPERIMENTS if table is None else table))
    return float(module.estimate(config, device=device))


def configure(
    recipe: str,
    scale: str,
    epochs: int | None = None,
    images: int | None = None,
    label_noise: float | None = None,
    *,
    embedded: bool = False,
) -> Any:
    """The configuration of a recipe at a scale, with what is given in place of its own. Raises LabError.

    `embedded` puts what the recipe takes at scale tiny, digits with their label noise, in place of its images.
    """
    from nas_core.lab.recipes import RECIPES  # late: importing the recipes imports the science and torch with it

    if recipe not in RECIPES:
        near = difflib.get_close_matches(recipe, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(sorted(RECIPES))}."
        raise LabError(f"There is no recipe {recipe!r}; {hint}")
    if scale not in SCALES:
        raise LabError(f"There is no scale {scale!r}; it must be one of {', '.join(SCALES)}.")
    try:
        config: Any = RECIPES[recipe](scale)
        if embedded:
            config = dataclasses.replace(config, data=RECIPES[recipe]("tiny").data)
        if epochs is not None:
            config = dataclasses.replace(config, epochs=epochs)
        data: dict[str, Any] = {"images": images, "label_noise": label_noise}
        if given := {name: value for name, value in data.items() if value is not None}:
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, **given))
        return config
    except (TypeError, ValueError) as error:
        raise LabError(f"{recipe} cannot be configured so: {error}") from error


def settle(
    recipe: str, scale: str, experiment: str, store: "Store", dataset: str | None = None, **given: Any
) -> tuple[Any, str]:
    """The configuration of a run with its dataset filled in, and a sentence that says what was taken.

    `given` are the values of `configure`. Without `dataset`, a recipe made for CIFAR-10 takes the best there is
    ("auto"), another its own. Where that leads from CIFAR-10 to the embedded digits, the number of images and the label
    noise follow."""
    config = configure(recipe, scale, **given)
    is_for_cifar = hasattr(config, "data") and _is_cifar(config.data.dataset)
    if dataset in (None, "auto"):
        dataset = "auto" if is_for_cifar else None
    if is_for_cifar and dataset == "digits":
        config = configure(recipe, scale, **given, embedded=True)
    config, sentence = resolve_dataset(config, experiment, store, dataset)
    if is_for_cifar and dataset == "auto" and config.data.dataset == "digits":
        config, _ = resolve_dataset(configure(recipe, scale, **given, embedded=True), experiment, store)
    return config, sentence


def has_recorded(recipe: str, scale: str, experiment: str, store: "Store", **given: Any) -> bool:
    """Whether a FRESH result has the configuration of a recipe, on whatever data; the data are not looked for."""
    plain = configure(recipe, scale, **given)
    if not hasattr(plain, "data"):
        return any(state.name == "FRESH" for state in store.seeds(experiment, plain).values())
    configs = (plain, configure(recipe, scale, **given, embedded=True))
    return any(_recorded(config, experiment, store, lambda name: True)[0] for config in configs)


def with_dataset(config: Any, name: str, sha256: str | None) -> Any:
    """A copy of `config` that takes the dataset `name` with this sha256."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dataset=name, sha256=sha256))


def _is_cifar(name: str) -> bool:
    return name.startswith("cifar10")


def resolve_dataset(config: Any, experiment: str, store: "Store", dataset: str | None = None) -> tuple[Any, str]:
    """Fill `config.data.dataset` and `.sha256`; return the configuration and a sentence that says what was taken.

    "auto" takes the CIFAR-10 of a recorded FRESH result with exactly these parameters, else CIFAR-10 on this machine,
    else the embedded digits. Any other name is that dataset, or, where this machine lacks it, the one of a recorded
    result; only an explicit "cifar10" may be downloaded. None takes the configuration's own name. Raises DataError.
    """
    if not hasattr(config, "data"):
        return config, f"The experiment {experiment} takes no dataset."
    wanted = config.data.dataset if dataset is None else dataset
    if wanted == "auto":
        return _automatic(config, experiment, store)
    chosen, sentence = _named(config, experiment, store, wanted, may_download=dataset == "cifar10")
    return chosen, sentence if dataset else sentence.replace("as asked for", "the recipe's own")


def _automatic(config: Any, experiment: str, store: "Store") -> tuple[Any, str]:
    from nas_core import data

    fresh, stale = _recorded(config, experiment, store, _is_cifar)
    if fresh:
        return fresh[0], f"Dataset {fresh[0].data.dataset}, as in the recorded result for exactly these parameters."
    chosen = with_dataset(config, data.auto(), None)
    chosen = dataclasses.replace(chosen, data=data.resolve(chosen.data))
    here = _is_cifar(chosen.data.dataset)
    found = "found on this machine" if here else "embedded, as no CIFAR-10 was found here"
    note = " (a recorded CIFAR-10 result for these parameters is STALE)" if stale else ""
    return chosen, f"Dataset {chosen.data.dataset}, {found}{note}."


def _named(config: Any, experiment: str, store: "Store", name: str, may_download: bool) -> tuple[Any, str]:
    from nas_core import data

    chosen = with_dataset(config, name, config.data.sha256 if name == config.data.dataset else None)
    try:
        return dataclasses.replace(chosen, data=data.resolve(chosen.data)), f"Dataset {name}, as asked for."
    except data.DataError:
        fresh, _ = _recorded(config, experiment, store, lambda recorded: recorded == name)
        if fresh:
            return fresh[0], f"Dataset {name}, as in the recorded result; this machine does not have it."
        if not may_download:
            raise
    data.load(name, download=True)
    return dataclasses.replace(chosen, data=data.resolve(chosen.data)), f"Dataset {name}, downloaded."


def _recorded(
    config: Any, experiment: str, store: "Store", accept: Callable[[str], bool]
) -> tuple[list[Any], list[Any]]:
    """The copies of `config` with the data of a recorded result: those that have a FRESH one, and those only STALE."""
    fresh, stale = [], []
    for name, sha256 in store.datasets(experiment):
        if accept(name):
            candidate = with_dataset(config, name, sha256)
            states = {state.name for state in store.seeds(experiment, candidate).values()}
            if "FRESH" in states:
                fresh.append(candidate)
            elif "STALE" in states:
                stale.append(candidate)
    return fresh, stale


def command(recipe: str, scale: str, config: Any, seeds: Iterable[int]) -> str:
    """What to type to compute `config` for these seeds: the lab's command where its options say it all."""
    try:
        for embedded in (False, True):
            base = configure(recipe, scale, embedded=embedded and hasattr(config, "data"))
            given, options = _options(base, config, embedded)
            again = configure(recipe, scale, **given, embedded=embedded and hasattr(config, "data"))
            if hasattr(config, "data"):
                again = with_dataset(again, config.data.dataset, config.data.sha256)
            if again == config:
                return f"python -m nas_core.lab run {recipe} --scale {scale} --seeds {format_seeds(seeds)}{options}"
    except (LabError, ImportError, TypeError, ValueError):
        pass  # an unknown recipe, or a configuration that is no variation of it
    return "NAS_RESULTS=auto, set for the notebook or script that asked for it"


def _options(base: Any, config: Any, embedded: bool) -> tuple[dict[str, Any], str]:
    """What `config` has in place of `base`: as values of `configure`, and as options of the lab's command."""
    given, options = {}, ""
    places = [("epochs", base, config)]
    if hasattr(config, "data"):
        places += [(name, base.data, config.data) for name in ("images", "label_noise")]
    for name, own, other in places:
        value = getattr(other, name, None)
        if value is not None and value != getattr(own, name, None):
            given[name] = value
            options += f" --{name.replace('_', '-')} {value}"
    # Named also where it is the recipe's own: without a name a recipe made for CIFAR-10 takes the best there is.
    if hasattr(config, "data") and (
        embedded or _is_cifar(base.data.dataset) or base.data.dataset != config.data.dataset
    ):
        options += f" --dataset {shlex.quote(config.data.dataset)}"
    return given, options


def parse_seeds(text: str) -> list[int]:
    """ "0-4", "0,2,5" or a mixture -> seeds in the order given, each once. Raises LabError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (_is_seed(first) and (_is_seed(last) if dash else True)) or (dash and int(last) < int(first)):
            raise LabError(f"Seeds {text!r} are not understood: give numbers and rising ranges, such as 0-4 or 0,2,5.")
        seeds += range(int(first), int(last if dash else first) + 1)
    return list(dict.fromkeys(seeds))


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 7


def format_seeds(seeds: Iterable[int]) -> str:
    """The shortest text that `parse_seeds` reads back as these seeds, in rising order: "0-4,7"."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
