"""Getting results: read what is recorded, compute the rest in processes or on a cluster."""

import contextlib
import dataclasses
import functools
import importlib
import math
import os
import re
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from nas_core.lab import cluster as _cluster
from nas_core.lab import code as _code
from nas_core.lab import experiments as _experiments
from nas_core.lab.code import LabError
from nas_core.lab.machine import environment, threads
from nas_core.lab.progress import Beat, Report, Say, duration, number, say, watching
from nas_core.lab.store import Job, Result, State, Store, ident, is_disk_full, load

MODES = ("auto", "read", "refresh")


class RunError(LabError):
    """One or more runs stopped; the others were finished and recorded. The notes hold the tracebacks."""


def obtain(
    jobs: Iterable[Job],
    *,
    mode: str | None = None,
    workers: int | None = None,
    store: Store | None = None,
    progress: Say = say,
    minutes: float | None = None,
    device: str = "cpu",
) -> list[Result]:
    """The FRESH results of `jobs`, in their order.

    mode: "auto" computes what is not FRESH, after saying how long it will take; "read" raises MissingResult or
    StaleResult with the command that computes it; "refresh" computes everything anew. None takes $NAS_RESULTS, else
    "auto".
    workers: processes; None takes as many as there are runs and cores. One worker runs in this process.
    minutes: a budget. Where the estimate exceeds it, every configuration keeps its first n seeds, n the largest that
    fits and at least 1; this is said, and the list returned is shorter.
    Inside `joblib.parallel_config(backend="dask")`, or another engine's name, the engine's workers take the place of
    processes here; they must see the store's folder under its name here. `device` is then a device of theirs.

    A run that fails does not stop the others; RunError then names it. Raises ResultError for a damaged file before it
    computes anything, and LabError for a wrong argument. An interrupted run resumes from its checkpoint next time.
    """
    jobs, store = list(jobs), store or Store()
    mode = mode_of(mode)
    engine = None if mode == "read" else _cluster.engine()
    _check(jobs, workers, minutes, device, is_here=engine is None)
    for experiment in {job.experiment for job in jobs}:
        _code.remember(_experiments.module_of(experiment, store.experiments))
    absent = _absent(jobs, store, everything=mode == "refresh")
    if mode == "read":
        if absent:
            raise store.missing(absent)
    elif absent:
        if engine is not None:  # its workers may have another working directory
            store = dataclasses.replace(store, root=store.root.absolute())
        there = None if engine is None else _cluster.workers(engine)
        count = workers if there is None else min(workers or there, there)
        several = engine is None and _worker_count(absent, workers) > 1
        with _processes() if several else contextlib.nullcontext():
            seconds = _estimates(absent, store, device, workers, engine)
            # The longest first: a long one that starts last leaves the other processes idle.
            absent.sort(key=lambda job: seconds[store.key(job)], reverse=True)
            jobs, absent = _plan(jobs, absent, seconds, store, count, minutes, progress)
            _compute(absent, seconds, store, workers, progress, device, mode == "refresh", engine)
    return [store.read(job) for job in jobs]


def mode_of(mode: str | None = None) -> str:
    """`mode`, else $NAS_RESULTS, else "auto". Raises LabError for another word."""
    given = mode if mode is not None else os.environ.get("NAS_RESULTS") or "auto"
    if given not in MODES:
        where = "NAS_RESULTS" if mode is None else "mode"
        raise LabError(f"{where} is {given!r}; it must be one of {', '.join(MODES)}.")
    return given


def _check(jobs: Sequence[Job], workers: int | None, minutes: float | None, device: str, is_here: bool) -> None:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise LabError(f"workers is {workers!r}; it must be a whole number from 1 on.")
    if minutes is not None and not (isinstance(minutes, int | float) and 0 < minutes < math.inf):
        raise LabError(f"minutes is {minutes!r}; it must be a number above 0.")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
        raise LabError(f"device is {device!r}; it must be cpu, cuda or cuda:<number>.")
    if device != "cpu" and is_here:
        import torch

        if not torch.cuda.is_available():
            raise LabError(f"device is {device!r}, but torch finds no GPU here; take cpu.")
    for job in jobs:
        data = getattr(job.config, "data", None)
        if data is not None and data.sha256 is None:
            raise LabError(
                f"The dataset of {job.name} is {data.dataset!r} without its sha256, so its result could not be "
                "told from one on other data; fill it in with experiments.resolve_dataset."
            )


# --- what to compute --------------------------------------------------------------------------------------------------


def _absent(jobs: Sequence[Job], store: Store, everything: bool) -> list[Job]:
    """The jobs to compute, each key once. Raises ResultError if a damaged file stands where a result should."""
    absent: dict[str, Job] = {}
    for job in jobs:
        state = store.state(job)
        if state is State.BROKEN:
            store.read(job)
        if everything or state is not State.FRESH:
            absent.setdefault(store.key(job), job)
    return list(absent.values())


def _plan(
    jobs: Sequence[Job],
    absent: Sequence[Job],
    seconds: dict[str, float],
    store: Store,
    workers: int | None,
    minutes: float | None,
    progress: Say,
) -> tuple[list[Job], list[Job]]:
    """Cut the seeds to the budget, and say so and how long it will take: (jobs to return, jobs to compute)."""
    kept_jobs, kept = list(jobs), list(absent)
    if minutes is not None and _wall(kept, seconds, store, workers) > 60 * minutes:
        kept_jobs, kept = _cut(jobs, absent, seconds, store, workers, 60 * minutes)
    count = _worker_count(kept, workers)
    if minutes is not None and len(kept_jobs) < len(jobs):
        wanted = duration(_wall(absent, seconds, store, workers))
        progress(
            f"All {number(len(absent), 'run')} would take about {wanted}, more than the {duration(60 * minutes)} "
            f"allowed: {len(kept_jobs)} of {len(jobs)} results, with fewer seeds for every configuration alike."
        )
    if kept:
        time_needed = duration(_wall(kept, seconds, store, workers))
        progress(f"{number(len(kept), 'run')}, about {time_needed} on {number(count, 'process', 'processes')}.")
    return kept_jobs, kept


def _estimates(
    jobs: Sequence[Job], store: Store, device: str, workers: int | None, engine: _cluster.Engine | None = None
) -> dict[str, float]:
    """Seconds of every job by key, timed where it will run, once a configuration: processes import there what the runs
    need, and share the machine as the runs will."""
    tasks = [(store, job, device) for job in {store.folder(job): job for job in reversed(jobs)}.values()]
    count = _worker_count(jobs, workers)
    if engine is not None:
        timed = _cluster.outcomes(engine, _timed, tasks)
    else:
        timed = (_timed(*task) for task in tasks) if count == 1 else _in_processes(_timed, tasks, count)
    seconds = dict(timed)
    return {store.key(job): max(seconds[store.folder(job)], 1e-3) for job in jobs}


def _timed(store: Store, job: Job, device: str) -> tuple[Path, float]:
    module = _experiments.module_of(job.experiment, store.experiments)
    try:
        importlib.import_module(module)
        _code.remember(module)  # this process may go on to the runs, which ask what it has loaded
        with threads(getattr(job.config, "threads", 1)):
            seconds = _experiments.estimate(job.experiment, job.config, device=device, table=store.experiments)
    except LabError:
        raise
    except Exception as error:
        raise RunError(f"{job.name} cannot start: {_reason(error)}") from error
    return store.folder(job), seconds


def _wall(jobs: Sequence[Job], seconds: dict[str, float], store: Store, workers: int | None) -> float:
    """Seconds until all are done, when each process takes the next job as soon as it is free."""
    if not jobs:
        return 0.0
    busy_until = [0.0] * _worker_count(jobs, workers)
    for job in jobs:
        first = busy_until.index(min(busy_until))
        busy_until[first] += seconds[store.key(job)]
    return max(busy_until)


def _cut(
    jobs: Sequence[Job],
    absent: Sequence[Job],
    seconds: dict[str, float],
    store: Store,
    workers: int | None,
    budget: float,
) -> tuple[list[Job], list[Job]]:
    """The first n seeds of every configuration, n the largest that fits the budget, at least 1."""
    seeds: dict[Path, list[int]] = {}
    for job in jobs:
        mine = seeds.setdefault(store.folder(job), [])
        if job.seed not in mine:
            mine.append(job.seed)
    for count in range(max(map(len, seeds.values())), 0, -1):
        kept = {(folder, seed) for folder, mine in seeds.items() for seed in mine[:count]}
        fewer = [[job for job in some if (store.folder(job), job.seed) in kept] for some in (jobs, absent)]
        if _wall(fewer[1], seconds, store, workers) <= budget:
            break
    return fewer[0], fewer[1]


def _worker_count(jobs: Sequence[Job], workers: int | None) -> int:
    return max(1, min(len(jobs), workers or os.cpu_count() or 1))


# --- computing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Failure:
    sentence: str
    trace: str


_Task = tuple[Store, Job, str, str, bool]  # ..., code, device, force
_Outcomes = Generator[tuple[str, _Failure | None], None, None]


def _compute(
    jobs: Sequence[Job],
    seconds: dict[str, float],
    store: Store,
    workers: int | None,
    progress: Say,
    device: str,
    force: bool,
    engine: _cluster.Engine | None = None,
) -> None:
    codes = {experiment: store.code(experiment) for experiment in {job.experiment for job in jobs}}
    resumed = [store.key(job) for job in jobs if store.checkpoint(job, codes[job.experiment]).exists()]
    report = Report({store.key(job): seconds[store.key(job)] for job in jobs}, progress, resumed)
    tasks = [(store, job, codes[job.experiment], device, force) for job in jobs]
    count, failures = _worker_count(jobs, workers), []
    try:
        if engine is not None:
            outcomes = _on_cluster(engine, tasks, workers, report)
        else:
            outcomes = _here(tasks, report, progress) if count == 1 else _beside(tasks, count, report)
        with contextlib.closing(outcomes):  # at once, not when a traceback lets go of it
            for key, failure in outcomes:
                report.finished(key)
                failures += [failure] if failure else []
    except KeyboardInterrupt:
        recorded = report.done_count - len(failures)
        progress(f"Interrupted: {recorded} of {len(jobs)} runs are recorded, the others resume next time.")
        raise
    if failures:
        raise _summary(failures, len(jobs))


def _summary(failures: Sequence[_Failure], count: int) -> RunError:
    rest = count - len(failures)
    others = f" The other {number(rest, 'run')} finished and {'is' if rest == 1 else 'are'} recorded." if rest else ""
    error = RunError(" ".join(failure.sentence for failure in failures) + others)
    for failure in failures:
        error.add_note(failure.trace)
    return error


def _here(tasks: Sequence[_Task], report: Report, progress: Say) -> _Outcomes:
    for store, job, code, device, force in tasks:
        beat = functools.partial(report.seen, store.key(job))
        yield _attempt(store, job, code, device, force, beat=beat, progress=progress)


def _beside(tasks: Sequence[_Task], workers: int, report: Report) -> _Outcomes:
    with watching(_heartbeats(tasks), report):
        yield from _in_processes(_attempt, tasks, workers)


def _in_processes(function: Callable, tasks: Sequence[tuple], workers: int) -> Iterator:
    """What `function` makes of every task, as it comes; the processes stay for what is asked next."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1, max_nbytes=None)
    try:
        yield from parallel(delayed(function)(*task) for task in tasks)
    except TerminatedWorkerError as error:
        raise RunError(
            "A process that computed a run was killed, most often for want of memory; run again with fewer "
            "workers: finished runs are recorded, the others resume from their checkpoints."
        ) from error


@contextlib.contextmanager
def _processes() -> Iterator[None]:
    """Idle processes would keep the code that they loaded, and their memory, for the next sweep: they end with this one."""
    try:
        yield
    finally:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def _on_cluster(engine: _cluster.Engine, tasks: Sequence[_Task], workers: int | None, report: Report) -> _Outcomes:
    written = {store.key(job): store.path(job, code) for store, job, code, *_ in tasks}
    folder = next(iter(_heartbeats(tasks).values())).parent
    with watching(_heartbeats(tasks), report), _cluster.attended(folder) as sweep:
        away = [(sweep, *task) for task in tasks]
        for key, failure in _cluster.outcomes(engine, _attempt_away, away, workers):
            if failure:
                del written[key]
            yield key, failure
    _cluster.wait_until_shown(written.values())


def _attempt_away(
    sweep: Path, store: Store, job: Job, code: str, device: str, force: bool
) -> tuple[str, _Failure | None]:
    """`_attempt` on another machine, as long as `sweep` is attended."""
    try:
        _cluster.check_attended(sweep)
    except LabError as error:
        return store.key(job), _Failure(f"{job.name}, stopped: {error}", traceback.format_exc())
    return _attempt(store, job, code, device, force, beat=_cluster.AttendedBeat(_heartbeat(store, job, code), sweep))


def _heartbeats(tasks: Sequence[_Task]) -> dict[str, Path]:
    return {store.key(job): _heartbeat(store, job, code) for store, job, code, *_ in tasks}


def _heartbeat(store: Store, job: Job, code: str) -> Path:
    return store.checkpoint(job, code).with_suffix(".beat")


def _attempt(
    store: Store,
    job: Job,
    code: str,
    device: str,
    force: bool,
    beat: Callable[[int, int], None] | None = None,
    progress: Say | None = None,
) -> tuple[str, _Failure | None]:
    """Compute and record one job, in whatever process this is; what goes wrong comes back as a value."""
    checkpoint = store.checkpoint(job, code)
    resumed = checkpoint.exists()
    try:
        _run(store, job, code, device, force, beat or Beat(_heartbeat(store, job, code)), progress)
        return store.key(job), None
    except Exception as error:
        sentence = f"{job.name}, stopped: {_reason(error)}"
        if resumed and not _is_expected(error):
            sentence += f" It had resumed from {checkpoint}; if that file is damaged, delete it."
        return store.key(job), _Failure(sentence, traceback.format_exc())
    finally:
        with contextlib.suppress(OSError):
            _heartbeat(store, job, code).unlink(missing_ok=True)


def _run(
    store: Store, job: Job, code: str, device: str, force: bool, beat: Callable[[int, int], None], progress: Say | None
) -> None:
    with _held(store.lock(job), job, progress):
        if not force and store.state(job) is State.FRESH:
            return  # another process recorded it while this one waited
        checkpoint = store.checkpoint(job, code)
        started = time.perf_counter()
        arrays = _call(store.experiments[job.experiment], job, code, device, checkpoint, beat)
        meta = {"code": code, "seconds": round(time.perf_counter() - started, 3), **environment(job.config, device)}
        store.write(job, arrays, meta)
        for leftover in checkpoint.parent.glob(f"{store.key(job)}-*"):  # of killed runs and of other code too
            leftover.unlink(missing_ok=True)


def _call(
    target: str, job: Job, code: str, device: str, checkpoint: Path | None, beat: Callable[[int, int], None] | None
) -> dict[str, np.ndarray]:
    module_name, _, function = target.partition(":")
    module = _code.load(module_name, code)
    with threads(getattr(job.config, "threads", 1)):
        return getattr(module, function)(job.config, job.seed, device=device, checkpoint=checkpoint, progress=beat)


@contextlib.contextmanager
def _held(lock: filelock.FileLock, job: Job, progress: Say | None) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if progress is not None:
            progress(f"  waiting for another process that computes {job.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _reason(error: BaseException) -> str:
    if is_disk_full(error):
        return "there is no room left on the disk; free some and run again, it resumes from its last checkpoint."
    text = " ".join(str(error).split()) or "it gave no reason"
    text = text if _is_expected(error) else f"{type(error).__name__}: {text}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _is_expected(error: BaseException) -> bool:
    """Whether an error speaks to the reader already: the project's own do."""
    return is_disk_full(error) or isinstance(error, FloatingPointError) or type(error).__module__.startswith("nas_core")


# --- attesting --------------------------------------------------------------------------------------------------------


def attest(experiment: str, old: str, store: Store | None = None, progress: Say = say) -> str:
    """Let results of the code `old` count as today's if today's code repeats a run of every `tiny` configuration among
    them bit for bit. Seconds that an experiment measures differ from run to run, whatever the code: they are not compared.

    Returns the evidence that it wrote. Raises LabError where there is nothing to compare with, or where a bit differs.
    """
    store = store or Store()
    code = store.code(experiment)
    wanted = {"experiment": experiment, "code": old, "scale": "tiny"}
    found = [record for record in store.records() if record.meta and wanted.items() <= record.meta.items()]
    # One run of every configuration: what a change of code breaks, it breaks for every seed.
    lowest = sorted(found, key=lambda record: record.meta["seed"], reverse=True)
    records = list({record.meta["ident"]: record for record in lowest}.values())
    if old == code:
        raise LabError(f"{old} is today's code of {experiment}: there is nothing to attest.")
    if not records:
        raise LabError(f"There is no recorded tiny result of {experiment} by the code {old} to compare with.")
    for record in records:
        job = _rebuilt(record.meta)
        progress(f"  repeating {job.name}")
        repeated = _call(store.experiments[experiment], job, code, "cpu", None, None)
        if differing := _differing(_repeatable(load(record.path).arrays), _repeatable(repeated)):
            raise LabError(f"Today's code gives {job.name} other bits in {', '.join(differing)}: nothing was attested.")
    names = sorted({f"{record.meta['recipe']} seed {record.meta['seed']}" for record in records})
    evidence = f"tiny results repeated bit for bit: {', '.join(names)}"
    store.attest(experiment, old, evidence)
    return evidence


def _rebuilt(meta: dict[str, Any]) -> Job:
    """The job of a recorded result, from its recipe and what a run may set.

    Raises LabError where they give another ident.
    """
    recorded = meta["config"]
    given = {name: recorded.get("data", {}).get(name) for name in ("images", "label_noise")}
    config = _experiments.configure(meta["recipe"], meta["scale"], recorded.get("epochs"), **given)
    if meta["dataset"]:
        config = _experiments.with_dataset(config, meta["dataset"]["name"], meta["dataset"]["sha256"])
    if ident(meta["experiment"], config) != meta["ident"]:
        raise LabError(f"The recipe {meta['recipe']} has changed since its tiny result was recorded: no comparison.")
    return Job(meta["experiment"], config, meta["seed"], meta["recipe"], meta["scale"])


def _repeatable(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    """The bits of every array but of measured seconds."""
    return {
        name: (array.dtype.str, array.shape, array.tobytes())
        for name, array in arrays.items()
        if name.split("_")[-1] != "seconds"
    }


def _differing(left: dict[str, tuple], right: dict[str, tuple]) -> list[str]:
    return sorted(name for name in left | right if left.get(name) != right.get(name))
