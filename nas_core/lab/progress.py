"""Saying how far a sweep is: signs of life of its runs, and a few lines made of them."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

POLL_SECONDS = 0.5  # between two looks at the heartbeats, and between two heartbeats of a run
LINES = 10  # of progress for a whole sweep, at most

Say = Callable[[str], None]


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


class Beat:
    """A run's sign of life for the process that started it: {"done", "total"} in a small file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + POLL_SECONDS
        with contextlib.suppress(OSError):  # a sign of life is not worth a run
            temporary = self.path.with_suffix(".beat.tmp")
            temporary.write_text(json.dumps({"done": done, "total": total}))
            os.replace(temporary, self.path)


class Report:
    """Says how far a sweep is, in at most `LINES` lines: one for each tenth of the work, measured in `seconds`.

    What the `resumed` runs had done when first seen cost nothing today, so the time left does not count it.
    """

    def __init__(self, seconds: dict[str, float], progress: Say, resumed: Collection[str] = ()) -> None:
        self.seconds = seconds
        self.progress = progress
        self.fractions: dict[str, float] = {}
        self.free = {key: 0.0 for key in seconds if key not in resumed}
        self.complete: set[str] = set()
        self.started = time.monotonic()
        self.tenths = 0
        self.lock = threading.Lock()

    @property
    def done_count(self) -> int:
        return len(self.complete)

    def seen(self, key: str, done: int, total: int) -> None:
        fraction = min(max(done / max(total, 1), 0.0), 1.0)
        with self.lock:
            self.free.setdefault(key, fraction)
            if key not in self.complete:
                self.fractions[key] = fraction
            self._say()

    def finished(self, key: str) -> None:
        with self.lock:
            self.free.setdefault(key, 0.0)
            self.fractions[key] = 1.0
            self.complete.add(key)
            self._say()

    def _say(self) -> None:
        total = sum(self.seconds.values())
        done = self._work(self.fractions)
        if int(LINES * done / total + 1e-9) <= self.tenths:
            return
        self.tenths = int(LINES * done / total + 1e-9)
        line = f"  {self.done_count} of {number(len(self.seconds), 'run')}, {100 * done / total:.0f} %"
        today = done - self._work(self.free)
        if today > 0 and done < total:
            line += f", about {duration((time.monotonic() - self.started) * (total - done) / today)} left"
        self.progress(line)

    def _work(self, fractions: dict[str, float]) -> float:
        return sum(self.seconds[key] * fraction for key, fraction in fractions.items())


@contextlib.contextmanager
def watching(heartbeats: dict[str, Path], report: Report) -> Iterator[None]:
    """Read the heartbeats (key -> file) of the runs in other processes until the block ends."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            for key, path in heartbeats.items():
                with contextlib.suppress(OSError, ValueError, KeyError):
                    beat = json.loads(path.read_text())
                    report.seen(key, beat["done"], beat["total"])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def duration(seconds: float) -> str:
    """ "40 s", "6 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def number(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
