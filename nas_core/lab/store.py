"""Recorded results: one file a run, named by what was run and by the code that ran it.

    <root>/<experiment>/<ident>/config.json            the configuration for a reader, with the recipes that led to it
    <root>/<experiment>/<ident>/s<seed>-<code>.npz     arrays, and meta.json among them
    <root>/attestations.jsonl                          codes whose results count as the current code's, with evidence
    <root>/.checkpoints/                               locks, checkpoints and heartbeats; not kept in git

A file appears under its final name complete or not at all. Reading needs no lock and writes nothing, so a store on a
read-only disk works.
"""

import contextlib
import dataclasses
import datetime
import errno
import functools
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from nas_core.lab import experiments as _experiments
from nas_core.lab.code import DIGITS, LabError, fingerprint, stamps

CONFIG = "config.json"
META = "meta.json"
CHECKPOINTS = ".checkpoints"
ATTESTATIONS = "attestations.jsonl"
_FILE = re.compile(rf"s(?P<seed>0|[1-9]\d*)-(?P<code>[0-9a-f]{{{DIGITS}}})\.npz")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESERVED = {META, "file", "args", "kwds", "allow_pickle"}  # parameters of np.savez_compressed
_META_KEYS = {"experiment", "ident", "seed", "code", "recipe", "scale", "config", "classes", "created"}


class ResultError(LabError):
    """A file in the store that is damaged or does not belong there."""


class MissingResult(LabError):
    """There is no result, and the mode forbids computing it."""


class StaleResult(MissingResult):
    """There is a result, but by other code than today's, and the mode forbids computing it."""


class DiskFull(LabError):
    """No room left on the disk."""


class State(Enum):
    """Whether a result is recorded, and by which code."""

    FRESH = "the result of today's code"
    STALE = "a result of other code"
    MISSING = "no result"
    BROKEN = "a damaged or foreign file"


@dataclass(frozen=True)
class Job:
    """One run. The key is (experiment, config, seed); recipe and scale only say where the configuration came from."""

    experiment: str
    config: Any
    seed: int
    recipe: str = ""
    scale: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise LabError(f"A seed must be a whole number from 0 on, not {self.seed!r}.")

    @property
    def name(self) -> str:
        """How messages call the run: its recipe where it has one."""
        recipe = f"{self.recipe} ({self.scale})" if self.scale else self.recipe
        return f"{recipe or self.experiment}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """Arrays of one run by name, and where they came from: what `Store.write` and `sweep.environment` put into meta."""

    arrays: Mapping[str, np.ndarray]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One file of the store. `meta` is empty and `reason` says why when the state is BROKEN."""

    path: Path
    state: State
    reason: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


# --- what names a configuration ---------------------------------------------------------------------------------------


def describe(config: Any) -> dict[str, Any]:
    """{"config": plain values, "classes": field path -> class name}, ready for JSON, tuples as lists.

    The class names tell apart two dataclasses with equal fields. Raises LabError for a value that is not plain: only
    dataclasses, text, numbers (no NaN or infinity), booleans, None, and lists, tuples and text-keyed dicts of them.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise LabError(f"A configuration must be a dataclass instance, not {type(config).__name__}.")
    classes: dict[str, str] = {}
    return {"config": _plain(config, "", classes), "classes": classes}


def _plain(value: Any, path: str, classes: dict[str, str]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        classes[path] = type(value).__name__
        names = [item.name for item in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name), f"{path}.{name}".lstrip("."), classes) for name in names}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", classes) for index, item in enumerate(value)]
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: _plain(item, f"{path}.{key}".lstrip("."), classes) for key, item in value.items()}
    if value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value)):
        return value
    raise LabError(
        f"The configuration's {path or 'value'} is {value!r} ({type(value).__name__}), which has no name in the store: "
        "use text, finite numbers, booleans, None, lists, tuples or dataclasses of these."
    )


def ident(experiment: str, config: Any) -> str:
    """12 hex digits that name an experiment with a configuration; the seed has no part in it. Raises LabError."""
    return _ident(experiment, describe(config))


def _ident(experiment: str, description: Mapping[str, Any]) -> str:
    content = {"experiment": experiment, "config": description["config"], "classes": description["classes"]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


# --- the store --------------------------------------------------------------------------------------------------------


def default_root() -> Path:
    """$NAS_RESULTS_ROOT, else `results` of the repository; of a package that was installed without it, of this folder."""
    given = os.environ.get("NAS_RESULTS_ROOT")
    repository = Path(__file__).resolve().parents[2]
    if given:
        return Path(given)
    return (repository if (repository / "pyproject.toml").is_file() else Path.cwd()) / "results"


@dataclass(frozen=True)
class Store:
    """Results under `root`; `experiments` maps an experiment's name to "module:function"."""

    root: Path = field(default_factory=default_root)
    experiments: Mapping[str, str] = field(default_factory=lambda: dict(_experiments.EXPERIMENTS))

    def code(self, experiment: str) -> str:
        """Fingerprint of the code on the disk that `experiment` would run."""
        return fingerprint(_experiments.module_of(experiment, self.experiments))

    def folder(self, job: Job) -> Path:
        return self.root / job.experiment / ident(job.experiment, job.config)

    def path(self, job: Job, code: str | None = None) -> Path:
        """Where the result of `job` by `code` (default: today's) is or will be."""
        return self.folder(job) / f"s{job.seed}-{code or self.code(job.experiment)}.npz"

    def key(self, job: Job) -> str:
        """One text a run, usable as a file name; equal for jobs that differ in provenance only."""
        return f"{job.experiment}-{ident(job.experiment, job.config)}-s{job.seed}"

    def checkpoint(self, job: Job, code: str | None = None) -> Path:
        """Where a run of `job` by `code` keeps what it needs to resume."""
        return self.root / CHECKPOINTS / f"{self.key(job)}-{code or self.code(job.experiment)}.pt"

    def lock(self, job: Job) -> filelock.FileLock:
        """The lock of a run, over processes; free again when its holder dies. Makes the folder. Raises LabError."""
        return self._lock(self.key(job))

    def _lock(self, name: str) -> filelock.FileLock:
        folder = self.root / CHECKPOINTS
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(folder / f"{name}.lock")

    # reading

    def state(self, job: Job) -> State:
        """BROKEN concerns the file that today's code would read; a damaged one of other code is no result at all."""
        path = self._accepted_path(job)
        if path is not None:
            return State.FRESH if _is_sound(path) else State.BROKEN
        return State.STALE if any(_is_sound(other) for other in self._files(job)) else State.MISSING

    def read(self, job: Job) -> Result:
        """The FRESH result of `job`. Raises ResultError (damaged), StaleResult or MissingResult."""
        path = self._accepted_path(job)
        if path is None:
            raise self.missing([job])
        result = load(path)
        result.meta["attested"] = self._accepted(job.experiment)[result.meta["code"]]
        return result

    def missing(self, jobs: list[Job]) -> MissingResult:
        """The error for jobs of which none is FRESH: what lacks, why, and the commands that compute it."""
        stale = [job for job in jobs if self.state(job) is State.STALE]
        commands: dict[Path, list[Job]] = {}
        for job in jobs:
            commands.setdefault(self.folder(job), []).append(job)
        how = "\n".join(
            "    " + _experiments.command(group[0].recipe, group[0].scale, group[0].config, [job.seed for job in group])
            for group in commands.values()
        )
        count = len(jobs)
        if stale:
            what = f"The recorded result of {stale[0].name} is STALE: it was made before the code changed"
            others = f" ({len(stale)} such, {count - len(stale)} missing altogether)" if count > 1 else ""
            return StaleResult(f"{what}{others}. Compute it anew with\n{how}")
        others = f" (and {count - 1} more)" if count > 1 else ""
        return MissingResult(f"There is no recorded result of {jobs[0].name}{others}. Compute it with\n{how}")

    def seeds(self, experiment: str, config: Any) -> dict[int, State]:
        """The seeds with a file for this configuration, and the state of each."""
        files = self._folder_files(Job(experiment, config, 0))
        numbers = sorted({int(name["seed"]) for path in files if (name := _FILE.fullmatch(path.name))})
        return {seed: self.state(Job(experiment, config, seed)) for seed in numbers}

    def datasets(self, experiment: str) -> list[tuple[str, str | None]]:
        """Every (name, sha256) of the data of a recorded configuration of `experiment`, sorted by name."""
        found = set()
        for path in self.root.glob(f"{experiment}/*/{CONFIG}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                data = json.loads(path.read_text())["config"]["data"]
                found.add((data["dataset"], data["sha256"]))
        return sorted(found, key=str)

    def records(self) -> list[Record]:
        """Every .npz under the root with its state, by path. A damaged or foreign one is BROKEN and hides no other."""
        accepted: dict[str, Mapping[str, Any]] = {}
        for experiment in self.experiments:
            with contextlib.suppress(LabError):  # code that cannot be read accepts no result
                accepted[experiment] = self._accepted(experiment)
        paths = (path for path in self.root.glob("**/*.npz") if CHECKPOINTS not in path.relative_to(self.root).parts)
        return [record for path in sorted(paths) if (record := self._record(path, accepted)) is not None]

    def _record(self, path: Path, accepted: Mapping[str, Mapping[str, Any]]) -> Record | None:
        parts = path.relative_to(self.root).parts
        if len(parts) != 3 or not _FILE.fullmatch(path.name) or parts[0] not in self.experiments:
            reason = "no result of this store: results are <experiment>/<ident>/s<seed>-<code>.npz"
            return Record(path, State.BROKEN, reason)
        try:
            meta = load(path).meta
        except FileNotFoundError:  # superseded by another process since it was listed
            return None
        except ResultError as error:
            return Record(path, State.BROKEN, str(error))
        codes = accepted.get(parts[0], {})
        meta["attested"] = codes.get(meta["code"])
        return Record(path, State.FRESH if meta["code"] in codes else State.STALE, meta=meta)

    def _folder_files(self, job: Job) -> list[Path]:
        return sorted(path for path in self.folder(job).glob("s*.npz") if _FILE.fullmatch(path.name))

    def _files(self, job: Job) -> list[Path]:
        """The files of a job by whatever code."""
        named = ((path, _FILE.fullmatch(path.name)) for path in self._folder_files(job))
        return [path for path, name in named if name and int(name["seed"]) == job.seed]

    def _accepted_path(self, job: Job) -> Path | None:
        paths = (self.path(job, code) for code in self._accepted(job.experiment))
        return next((path for path in paths if path.exists()), None)

    # writing

    def write(self, job: Job, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None = None) -> Path:
        """Record a result and remove those of other code that it supersedes. Call it with the job's lock held.

        `meta` adds to what the store knows by itself; its "code" says which code ran (default: today's). Damaged files
        of other code are left for their owner to look at. Raises LabError, and DiskFull with the store as it was.
        """
        given = dict(meta or {})
        code = given.get("code") or self.code(job.experiment)
        path = self.path(job, code)
        full = {**given, **self._provenance(job), "code": code, "attested": None}
        write_atomically(path, _packed(arrays, full))
        self._write_config(job)
        for other in self._files(job):
            if other != path and _is_sound(other):
                other.unlink(missing_ok=True)
        return path

    def _provenance(self, job: Job) -> dict[str, Any]:
        data = getattr(job.config, "data", None)
        dataset = None if data is None else {"name": data.dataset, "sha256": data.sha256}
        return {
            "experiment": job.experiment,
            "ident": ident(job.experiment, job.config),
            "seed": job.seed,
            "recipe": job.recipe,
            "scale": job.scale,
            "dataset": dataset,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **describe(job.config),
        }

    def _write_config(self, job: Job) -> None:
        """config.json only repeats what every result of its folder holds, so an unreadable one is simply made again."""
        path = self.folder(job) / CONFIG
        with self._lock(f"{job.experiment}-{path.parent.name}"):  # two seeds may end at once
            try:
                before = json.loads(path.read_text())
                names = {(item["recipe"], item["scale"]) for item in before["names"]}
            except (OSError, ValueError, KeyError, TypeError):
                before, names = None, set()
            names |= {(job.recipe, job.scale)} if job.recipe else set()
            content = {
                "experiment": job.experiment,
                "ident": path.parent.name,
                "names": [{"recipe": recipe, "scale": scale} for recipe, scale in sorted(names)],
                **describe(job.config),
            }
            if content != before:
                write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())

    # attested code

    def attestations(self) -> list[dict[str, str]]:
        """The lines of attestations.jsonl: {experiment, old, new, evidence, date}. Raises ResultError."""
        path = self.root / ATTESTATIONS
        try:
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            return [{key: line[key] for key in ("experiment", "old", "new", "evidence", "date")} for line in lines]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(f"{path} is damaged ({error}): restore it from git.") from error

    def attest(self, experiment: str, old: str, evidence: str) -> None:
        """Write that results of the code `old` count as today's, because of `evidence`."""
        line = {"experiment": experiment, "old": old, "new": self.code(experiment), "evidence": evidence}
        line["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        with self._lock(ATTESTATIONS):
            lines = [*self.attestations(), line]
            text = "".join(json.dumps(item) + "\n" for item in lines)
            write_atomically(self.root / ATTESTATIONS, text.encode())

    def _accepted(self, experiment: str) -> dict[str, dict[str, str] | None]:
        """The codes whose results count as today's, today's first, each with the attestation that links it on."""
        accepted: dict[str, dict[str, str] | None] = {self.code(experiment): None}
        links = [line for line in self.attestations() if line["experiment"] == experiment]
        while new := [line for line in links if line["new"] in accepted and line["old"] not in accepted]:
            accepted |= {line["old"]: line for line in new}
        return accepted


# --- files ------------------------------------------------------------------------------------------------------------


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that led to it, says that the disk, the quota or the largest file size is exhausted."""
    seen: BaseException | None = error
    while seen is not None:
        # torch.save to a path hides the number of the error behind a RuntimeError of its own
        if getattr(seen, "errno", None) in _NO_ROOM or "PytorchStreamWriter failed writing" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into a LabError that says what to do."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No room is left on the disk for {path}, and nothing was changed; free some.") from error
        reason = error.strerror or error
        advice = "make it writable or point NAS_RESULTS_ROOT elsewhere"
        raise LabError(f"{path} cannot be written ({reason}); {advice}.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader, or a machine that loses power, sees all of it or what was there before.

    Two writers of one path must exclude each other. Raises DiskFull or LabError, and leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # a fixed name: the next write clears what a killed one left
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Some file systems refuse to sync a folder; the file itself is complete by then."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _packed(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.hasobject or not name.isidentifier() or name in _RESERVED:
            raise LabError(f"The array {name!r} cannot be recorded: give a plain name and a numpy array of numbers.")
    text = json.dumps(meta, sort_keys=True, allow_nan=False).encode()
    buffer = io.BytesIO()
    content: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    content[META] = np.frombuffer(text, np.uint8)
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()


def load(path: Path) -> Result:
    """Raises ResultError for anything that is not a whole result in its own place, FileNotFoundError if it is gone."""
    try:
        # numpy closes a path that it opened too late if the file is no archive, hence the handle
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop(META).tobytes())
        _check_place(path, meta)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive can fail in any way whatever: zip, zlib, header, JSON, memory
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResultError(
            f"{path} is no result that can be read ({reason}): delete the file, or restore it from git, and run again."
        ) from error
    return Result(arrays, meta)


def _check_place(path: Path, meta: dict[str, Any]) -> None:
    if lacking := sorted(_META_KEYS - set(meta)):
        raise ValueError(f"its {META} lacks {', '.join(lacking)}")
    name = _FILE.fullmatch(path.name)
    if name is None:
        raise ValueError("its name is not s<seed>-<code>.npz")
    place = (path.parts[-3], path.parts[-2], int(name["seed"]), name["code"])
    if place != (meta["experiment"], meta["ident"], meta["seed"], meta["code"]):
        raise ValueError("it is the result of another run under this one's name")
    if _ident(meta["experiment"], meta) != meta["ident"]:
        raise ValueError("its configuration does not give its ident")


def _is_sound(path: Path) -> bool:
    stamp = stamps([path])
    return _loads(path) if stamp is None else _loads_as(path, stamp)


@functools.lru_cache(maxsize=4096)
def _loads_as(path: Path, stamp: tuple) -> bool:
    """`_loads` of a file that carries `stamp`: it is read once, and again when it was touched."""
    return _loads(path)


def _loads(path: Path) -> bool:
    try:
        load(path)
    except (ResultError, FileNotFoundError):
        return False
    return True
