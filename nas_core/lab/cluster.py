"""Runs on a cluster: the engine that `joblib.parallel_config` names, made fit for runs of hours.

An engine's workers share one folder with this process, the store, and nothing else. What a sweep needs of them beyond
joblib is here: an end to runs that nobody waits for, results that a network file system shows late, and one sentence
for whatever an engine gives up on.
"""

import contextlib
import os
import textwrap
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nas_core.lab.code import LabError
from nas_core.lab.progress import POLL_SECONDS, Beat
from nas_core.lab.store import explained

SHOWN_WITHIN = 90.0  # seconds: network file systems keep what they know of a folder for up to a minute

Engine = Any  # a joblib ParallelBackendBase


class Unattended(LabError):
    """The sweep that a run belongs to has ended, or it keeps its results on another disk than this process sees."""


def engine() -> Engine | None:
    """The engine chosen with `joblib.parallel_config(backend=...)`.

    None without one, and for joblib's own backends: a sweep has processes of its own for one machine, and threads of
    one process would share torch's number of threads. Raises LabError for dask workers that run several tasks at once.
    """
    from joblib.parallel import get_active_backend

    backend, _ = get_active_backend()
    if type(backend).__module__.startswith("joblib._parallel_backends"):
        return None
    threads = max(backend.client.nthreads().values(), default=1) if _is_dask(backend) else 1
    if threads > 1:
        raise LabError(
            f"A dask worker here runs {threads} tasks at once, and runs that share a process would not repeat bit for "
            "bit; start more workers of one thread each (--nthreads 1, or threads_per_worker=1)."
        )
    return backend


def workers(backend: Engine) -> int:
    """How many runs the engine computes at once now; waits for a first worker. Raises LabError."""
    with _explained():
        return backend.effective_n_jobs(-1)


@contextlib.contextmanager
def dask(scheduler: str | None) -> Iterator[None]:
    """Sweeps inside the block compute on the workers of the dask scheduler at this address; None changes nothing.

    Raises LabError where dask is not installed or nothing answers at the address.
    """
    if scheduler is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise LabError("A dask scheduler needs dask; install it with `pip install 'nas_core[cluster]'`.") from error
    import joblib

    try:
        client = Client(scheduler, set_as_default=False)
    except (OSError, ValueError) as error:
        raise LabError(f"No dask scheduler answers at {scheduler!r}; give an address like tcp://host:8786.") from error
    with client, joblib.parallel_config(backend="dask", client=client):
        yield


# --- tasks ------------------------------------------------------------------------------------------------------------


def outcomes(backend: Engine, function: Callable, tasks: Sequence[tuple], at_once: int | None = None) -> Iterator[Any]:
    """`function(*task)` of every task on the engine, in the order in which they end; at most `at_once` at a time.

    A LabError of a task is raised as it is. Raises LabError for whatever the engine gives up on.
    """
    from joblib import Parallel, delayed

    # An engine that cannot hand out results one by one hands them out together.
    how = "generator_unordered" if backend.supports_return_generator else "list"
    with _mended(backend), _explained():
        # Everything is handed over at once, so that workers that join later find work.
        parallel = Parallel(
            n_jobs=-1, backend=backend, return_as=how, batch_size=1, pre_dispatch=at_once or "all", max_nbytes=None
        )
        yield from parallel(delayed(function)(*task) for task in tasks)


@contextlib.contextmanager
def _mended(backend: Engine) -> Iterator[None]:
    """joblib (1.6) hears nothing of a task that dask gives up and waits for ever, and computes in this process where a
    dask cluster has one worker so far."""
    if not _is_dask(backend):
        yield
        return
    submit, count = backend.submit, backend.effective_n_jobs

    def answered(work: Any, callback: Callable[[Any], None]) -> Any:
        future = submit(work, callback)
        future.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
        return future

    backend.submit = answered
    backend.effective_n_jobs = lambda n_jobs: max(2, count(n_jobs))
    try:
        yield
    finally:
        del backend.submit, backend.effective_n_jobs


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except LabError:
        raise
    except Exception as error:
        text = textwrap.shorten(str(error), 200, placeholder=" ...") or "it gave no reason"
        reason = f"{type(error).__name__}: {text.rstrip('. ')}"
        raise LabError(
            f"The cluster gave up ({reason}); run again: finished runs are recorded, the others resume from their "
            "checkpoints."
        ) from error


def _is_dask(backend: Engine) -> bool:
    return type(backend).__module__ == "joblib._dask"


# --- what a sweep and its workers tell each other through the store ---------------------------------------------------


@contextlib.contextmanager
def attended(folder: Path) -> Iterator[Path]:
    """A file in `folder` that is there as long as the block lasts: runs elsewhere end when it is gone."""
    path = folder / f"{uuid.uuid4().hex}.sweep"
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def check_attended(sweep: Path) -> None:
    """Raises Unattended if `sweep`, the file of `attended`, is not there."""
    try:
        os.stat(sweep)
    except FileNotFoundError as error:
        raise Unattended(
            f"this worker sees no sweep in {sweep.parent}; if the sweep goes on, the workers do not share this "
            "folder: point NAS_RESULTS_ROOT to one that all machines share."
        ) from error
    except OSError:  # a file system that does not answer just now says nothing about the sweep
        pass


class AttendedBeat(Beat):
    """A run's sign of life that ends the run once nobody waits for it. Ctrl-C reaches no other machine."""

    def __init__(self, path: Path, sweep: Path) -> None:
        super().__init__(path)
        self.sweep = sweep

    def __call__(self, done: int, total: int) -> None:
        super().__call__(done, total)
        check_attended(self.sweep)


def wait_until_shown(paths: Iterable[Path]) -> None:
    """Wait until this machine sees the files that others have written. Raises LabError after `SHOWN_WITHIN` seconds."""
    deadline = time.monotonic() + SHOWN_WITHIN
    waiting = list(paths)
    while waiting := [path for path in waiting if not path.exists()]:
        if time.monotonic() > deadline:
            raise LabError(f"A worker recorded {waiting[0]}, but this machine does not see it; run again.")
        for folder in {path.parent for path in waiting}:
            with contextlib.suppress(OSError):
                os.listdir(folder)  # opening a folder makes a network file system look at it again
        time.sleep(POLL_SECONDS)
