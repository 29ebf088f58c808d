"""A small package with one experiment, written to a folder of its own, so that the lab's tests may edit it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas_core.lab.store import Job, Store

REPOSITORY = Path(__file__).resolve().parents[1]

RUN = '''
    """A sum over epochs that can be slowed, stopped and resumed."""

    import json
    import os
    import time
    from dataclasses import dataclass, field

    import numpy as np

    from mini.constants import STEP


    @dataclass(frozen=True)
    class DataConfig:
        dataset: str = "digits"
        sha256: str | None = "0" * 64
        images: int | None = None
        label_noise: float = 0.0
        held_out: float = 0.5


    @dataclass(frozen=True)
    class Config:
        epochs: int = 4
        rate: float = 0.5
        pause: float = 0.0
        failing: tuple[int, ...] = ()
        seconds: float = 0.1
        data: DataConfig = field(default_factory=DataConfig)

        def __post_init__(self):
            if self.epochs < 1:
                raise ValueError(f"epochs is {self.epochs}; give a whole number from 1 on")


    def estimate(config, *, device="cpu"):
        return config.seconds


    def run(config, seed, *, device="cpu", checkpoint=None, progress=None):
        """Values over epochs."""
        state = {"epoch": 0, "values": [float(seed)]}
        if checkpoint is not None and checkpoint.exists():
            state = json.loads(checkpoint.read_text())
        while state["epoch"] < config.epochs:
            time.sleep(config.pause)
            if seed in config.failing and state["epoch"] == 1:
                raise FloatingPointError("the loss is NaN at step 17")
            state["values"].append(config.rate * state["values"][-1] + STEP)
            state["epoch"] += 1
            journal(f"{seed} {state['epoch']}")
            if checkpoint is not None:
                save(checkpoint, json.dumps(state))
            if progress is not None:
                progress(state["epoch"], config.epochs)
        arrays = {"values": np.array(state["values"], np.float32), "nothing": np.zeros((0, 3)), "seed": np.array(seed)}
        return arrays | {"clock_seconds": np.array(time.perf_counter())}  # as measured: never the same twice


    def save(path, text):
        temporary = path.with_suffix(".tmp")
        with open(temporary, "w") as file:
            file.write(text)
        os.replace(temporary, path)


    def journal(line):
        with open(os.environ["MINI_JOURNAL"], "a") as file:
            file.write(line + chr(10))
'''


def write_package(folder: Path) -> None:
    (folder / "mini").mkdir(parents=True)
    (folder / "mini/__init__.py").write_text("")
    (folder / "mini/constants.py").write_text('"""Constants."""\n\nSTEP = 1.0  # a step\n')
    (folder / "mini/unused.py").write_text("OTHER = 1\n")
    (folder / "mini/run.py").write_text(textwrap.dedent(RUN).lstrip())


def forget() -> None:
    """What a new process would not know: the loaded package."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mini"]:
        del sys.modules[name]


@pytest.fixture
def mini(tmp_path, monkeypatch):
    """The package on the path, its store, and helpers: job(seed, **config), journal() -> lines, edit(), script()."""
    source = tmp_path / "source"
    write_package(source)
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.setenv("MINI_JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # a .pyc of the same second and size would hide an edit
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("NAS_RESULTS", raising=False)
    forget()
    store = Store(tmp_path / "results", {"mini": "mini.run:run"})

    def job(seed=0, recipe="mini_plain", scale="tiny", **config):
        import mini.run

        return Job("mini", mini.run.Config(**config), seed, recipe, scale)

    def journal():
        path = tmp_path / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def edit(before="STEP = 1.0", after="STEP = 2.0", file="constants.py"):
        path = source / "mini" / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def script(body):
        """Start `body` in a process of its own, with the job's helpers defined."""
        head = f"""
            import signal
            from pathlib import Path
            from mini.run import Config
            from nas_core.lab.store import Job, Store
            from nas_core.lab.sweep import obtain
            store = Store(Path({str(store.root)!r}), {{"mini": "mini.run:run"}})
            # A shell that starts the tests in the background makes all below it deaf to Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            def job(seed=0, **config):
                return Job("mini", Config(**config), seed, "mini_plain", "tiny")
        """
        text = textwrap.dedent(head) + textwrap.dedent(body)
        environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{REPOSITORY}"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", text], env=environment, text=True, **pipes)

    yield SimpleNamespace(store=store, job=job, journal=journal, edit=edit, script=script, source=source, forget=forget)
    forget()
