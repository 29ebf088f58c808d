"""Sweeps: modes, budgets, failures, interruption, and two processes that want the same."""

import dataclasses
import os
import re
import signal
import sys
import time
import types

import numpy as np
import pytest

from nas_core.lab import experiments, sweep
from nas_core.lab.code import LabError
from nas_core.lab.experiments import format_seeds, parse_seeds
from nas_core.lab.progress import Report, duration
from nas_core.lab.store import MissingResult, ResultError, StaleResult, State
from nas_core.lab.sweep import RunError, attest, obtain
from tests.lab_mini import mini  # noqa: F401


def values(seed, epochs, step=1.0, rate=0.5):
    out = [float(seed)]
    for _ in range(epochs):
        out.append(rate * out[-1] + step)
    return np.array(out, np.float32)


def nothing_left_over(store):
    return [path.name for path in (store.root / ".checkpoints").iterdir() if path.suffix != ".lock"] == []


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# --- modes ------------------------------------------------------------------------------------------------------------


def test_auto_computes_once_and_reads_then(mini):
    jobs, lines = [mini.job(seed) for seed in (2, 0)], []
    first = obtain(jobs, store=mini.store, workers=1, progress=lines.append)
    assert lines[0] == "2 runs, about 1 s on 1 process." and 2 <= len(lines) <= 11
    again = obtain(jobs, store=mini.store, progress=lines.append)
    for result, repeated, seed in zip(first, again, (2, 0), strict=True):
        np.testing.assert_array_equal(result.arrays["values"], values(seed, 4))
        np.testing.assert_array_equal(result.arrays["values"], repeated.arrays["values"])
        assert result.meta == repeated.meta and result.meta["seed"] == seed
    assert len(mini.journal()) == 8
    meta = first[0].meta
    assert {"device", "threads", "hardware", "platform", "python", "numpy", "torch", "seconds"} <= set(meta)
    assert os.uname().nodename not in str(meta).replace(meta["hardware"], "")
    assert nothing_left_over(mini.store)


def test_the_same_run_asked_for_twice_is_computed_once(mini):
    lines = []
    results = obtain([mini.job(), mini.job(recipe="other")], store=mini.store, progress=lines.append)
    assert len(results) == 2 and len(mini.journal()) == 4 and lines[0].startswith("1 run, ")


def test_read_refuses_what_is_missing_and_what_is_stale(mini, monkeypatch):
    monkeypatch.setenv("NAS_RESULTS", "read")
    recipes = SimpleRecipes(mini)
    recipes.install(monkeypatch)
    with pytest.raises(MissingResult) as error:
        obtain([mini.job(seed) for seed in (0, 1, 2, 5)], store=mini.store)
    assert "There is no recorded result of mini_plain (tiny), seed 0 (and 3 more)" in str(error.value)
    assert str(error.value).endswith("python -m nas_core.lab run mini_plain --scale tiny --seeds 0-2,5")
    assert not mini.store.root.exists() and mini.journal() == []

    obtain([mini.job()], mode="auto", store=mini.store, workers=1)
    assert len(obtain([mini.job()], store=mini.store)) == 1
    mini.edit()
    mini.forget()
    with pytest.raises(StaleResult, match="is STALE: it was made before the code changed") as error:
        obtain([mini.job()], store=mini.store)
    assert "--seeds 0" in str(error.value) and len(mini.journal()) == 4


class SimpleRecipes:
    """What stands in for nas_core.lab.recipes."""

    def __init__(self, mini):
        self.mini = mini

    def install(self, monkeypatch):
        module = types.ModuleType("nas_core.lab.recipes")
        module.RECIPES = {"mini_plain": lambda scale: self.mini.job().config}
        monkeypatch.setitem(sys.modules, "nas_core.lab.recipes", module)


def test_the_command_repeats_epochs_and_dataset_or_says_that_it_cannot(mini, monkeypatch):
    SimpleRecipes(mini).install(monkeypatch)
    config = mini.job(epochs=9).config
    base = "python -m nas_core.lab run mini_plain --scale tiny --seeds 1"
    assert experiments.command("mini_plain", "tiny", config, [1]) == f"{base} --epochs 9"
    config = experiments.with_dataset(mini.job().config, "a folder", "1" * 64)
    assert experiments.command("mini_plain", "tiny", config, [1]) == f"{base} --dataset 'a folder'"
    assert "NAS_RESULTS=auto" in experiments.command("mini_plain", "tiny", mini.job(rate=0.1).config, [1])
    assert "NAS_RESULTS=auto" in experiments.command("", "", config, [1])


def test_refresh_computes_anew(mini):
    obtain([mini.job()], store=mini.store, workers=1)
    obtain([mini.job()], store=mini.store, workers=1, mode="refresh")
    assert len(mini.journal()) == 8


def test_an_edit_makes_auto_compute_the_new_numbers(mini):
    obtain([mini.job(1)], store=mini.store, workers=1)
    mini.edit()
    mini.forget()
    (result,) = obtain([mini.job(1)], store=mini.store, workers=1)
    np.testing.assert_array_equal(result.arrays["values"], values(1, 4, step=2.0))
    assert len(mini.store.records()) == 1


def test_a_process_that_loaded_older_code_refuses_to_compute(mini):
    obtain([mini.job(0)], store=mini.store, workers=1)
    mini.edit()
    with pytest.raises(RunError, match="restart the process"):
        obtain([mini.job(0)], store=mini.store, workers=1)
    assert mini.store.state(mini.job(0)) is State.STALE


def test_processes_load_the_code_of_today(mini):
    """Worker processes of an earlier sweep must not compute a later one with the code they know."""
    obtain([mini.job(seed) for seed in (0, 1)], store=mini.store, workers=2)
    mini.edit()
    results = obtain([mini.job(seed) for seed in (0, 1)], store=mini.store, workers=2)
    np.testing.assert_array_equal(results[1].arrays["values"], values(1, 4, step=2.0))


def test_runs_are_estimated_in_the_processes_that_compute_them(mini):
    """What they import for the one they need not import again for the other."""
    mini.edit("return config.seconds", "journal(f'estimate {os.getpid()}'); return config.seconds", "run.py")
    mini.edit("""journal(f"{seed} {state['epoch']}")""", "journal(f'run {os.getpid()}')", "run.py")
    obtain(
        [mini.job(seed, rate=rate, pause=0.1) for seed in (0, 1) for rate in (0.5, 0.6)], store=mini.store, workers=2
    )
    seen = {kind: {line.split()[1] for line in mini.journal() if line.startswith(kind)} for kind in ("estimate", "run")}
    assert seen["estimate"] and seen["estimate"] | seen["run"] == seen["run"] and str(os.getpid()) not in seen["run"]


def test_an_edit_between_the_estimate_and_the_run_is_noticed(mini):
    """The process that estimated has loaded the code as it was then; another one computes with today's."""
    here = "Path(__file__).with_name('constants.py').write_text('STEP = 2.0')"
    mini.edit("return config.seconds", f"from pathlib import Path; {here}; return config.seconds", "run.py")
    with pytest.raises(RunError, match="restart the process"):
        obtain([mini.job(seed, pause=0.1) for seed in (0, 1)], store=mini.store, workers=2)
    for seed in (0, 1):
        if mini.store.state(job := mini.job(seed, pause=0.1)) is State.FRESH:
            np.testing.assert_array_equal(mini.store.read(job).arrays["values"], values(seed, 4, step=2.0))


@pytest.mark.parametrize("word", ["cached", "READ", " auto"])
def test_a_wrong_mode_is_one_sentence(mini, monkeypatch, word):
    monkeypatch.setenv("NAS_RESULTS", word)
    with pytest.raises(LabError, match=re.escape(f"NAS_RESULTS is {word!r}; it must be one of auto, read, refresh.")):
        obtain([mini.job()], store=mini.store)
    with pytest.raises(LabError, match="mode is 'now'"):
        obtain([mini.job()], store=mini.store, mode="now")
    assert not mini.store.root.exists()


@pytest.mark.parametrize(
    "wrong",
    [{"workers": 0}, {"workers": 1.5}, {"minutes": 0}, {"minutes": float("nan")}, {"minutes": "5"}, {"device": "gpu"}],
)
def test_a_wrong_argument_is_one_sentence(mini, wrong):
    with pytest.raises(LabError, match=f"^{next(iter(wrong))} is .*; it must be"):
        obtain([mini.job()], store=mini.store, **wrong)
    assert not mini.store.root.exists()


def test_a_configuration_without_the_hash_of_its_data_is_refused(mini):
    config = experiments.with_dataset(mini.job().config, "digits", None)
    job = type(mini.job())("mini", config, 0)
    with pytest.raises(LabError, match="without its sha256"):
        obtain([job], store=mini.store)


def test_a_damaged_file_stops_before_anything_is_computed(mini):
    obtain([mini.job(1)], store=mini.store, workers=1)
    path = mini.store.path(mini.job(1))
    path.write_text("damaged")
    for mode in ("auto", "refresh", "read"):
        with pytest.raises(ResultError, match="delete the file"):
            obtain([mini.job(0), mini.job(1)], store=mini.store, mode=mode)
    assert path.read_text() == "damaged" and len(mini.journal()) == 4


# --- budget -----------------------------------------------------------------------------------------------------------


def test_a_budget_cuts_the_seeds_of_all_configurations_alike(mini):
    jobs = [mini.job(seed, rate=rate, seconds=60.0) for rate in (0.5, 0.25) for seed in range(5)]
    lines = []
    results = obtain(jobs, store=mini.store, workers=1, minutes=4.5, progress=lines.append)
    found = [(result.meta["config"]["rate"], result.meta["seed"]) for result in results]
    assert found == [(0.5, 0), (0.5, 1), (0.25, 0), (0.25, 1)]
    assert lines[0] == (
        "All 10 runs would take about 10 min, more than the 4 min allowed: 4 of 10 results, with fewer seeds for every "
        "configuration alike."
    )
    assert lines[1] == "4 runs, about 4 min on 1 process."
    assert len(mini.store.records()) == 4


def test_a_budget_keeps_one_seed_and_does_not_count_what_is_recorded(mini):
    jobs = [mini.job(seed, seconds=60.0) for seed in range(3)]
    assert len(obtain(jobs, store=mini.store, workers=1, minutes=0.1)) == 1
    assert len(obtain(jobs, store=mini.store, workers=1, minutes=1.0)) == 2
    assert len(obtain(jobs, store=mini.store, workers=1, minutes=1.0)) == 3
    assert len(mini.journal()) == 12


def test_processes_share_the_estimated_work(mini):
    jobs = [mini.job(seed, seconds=60.0) for seed in range(5)]
    seconds = {mini.store.key(job): 60.0 for job in jobs}
    assert sweep._wall(jobs, seconds, mini.store, 2) == 180
    assert sweep._wall(jobs, seconds, mini.store, 8) == 60


def test_the_longest_run_starts_first(mini):
    jobs = [mini.job(seed, seconds=seconds) for seed, seconds in enumerate((50.0, 20.0, 60.0))]
    results = obtain(jobs, store=mini.store, workers=1)
    assert [line.split()[0] for line in mini.journal() if line.endswith(" 1")] == ["2", "0", "1"]
    assert [result.meta["seed"] for result in results] == [0, 1, 2]


def test_two_processes_gain_from_that(mini):
    """In the order given two processes would need 80 s: the longest would wait for the shortest."""
    jobs, lines = [mini.job(seed, seconds=seconds) for seed, seconds in enumerate((50.0, 20.0, 60.0))], []
    obtain(jobs, store=mini.store, workers=2, progress=lines.append)
    assert lines[0] == "3 runs, about 70 s on 2 processes."


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_run_is_named_and_the_others_are_recorded(mini, workers):
    jobs = [mini.job(seed, failing=(1,)) for seed in range(3)]
    with pytest.raises(RunError) as error:
        obtain(jobs, store=mini.store, workers=workers)
    assert str(error.value) == (
        "mini_plain (tiny), seed 1, stopped: the loss is NaN at step 17. The other 2 runs finished and are recorded."
    )
    assert "Traceback" in error.value.__notes__[0] and "run.py" in error.value.__notes__[0]
    assert [mini.store.state(job).name for job in jobs] == ["FRESH", "MISSING", "FRESH"]


def test_an_unexpected_error_keeps_its_kind(mini):
    mini.edit("time.sleep(config.pause)", "raise KeyError('weights')", "run.py")
    with pytest.raises(RunError, match="seed 0, stopped: KeyError: 'weights'"):
        obtain([mini.job()], store=mini.store, workers=1)


def test_an_estimate_that_fails_is_one_sentence(mini):
    mini.edit("return config.seconds", "raise ValueError('no data')", "run.py")
    with pytest.raises(RunError, match=r"^mini_plain \(tiny\), seed 0 cannot start: ValueError: no data\.$"):
        obtain([mini.job()], store=mini.store, workers=1)


def test_a_killed_worker_process_is_one_sentence(mini):
    mini.edit("time.sleep(config.pause)", "os.kill(os.getpid(), 9) if seed == 1 else time.sleep(0)", "run.py")
    with pytest.raises(RunError, match="was killed, most often for want of memory"):
        obtain([mini.job(seed) for seed in (0, 1)], store=mini.store, workers=2)


@pytest.mark.parametrize("where", ["checkpoint", "result"])
def test_a_full_disk_keeps_what_was_there_and_the_run_resumes(mini, monkeypatch, where):
    obtain([mini.job(1)], store=mini.store, workers=1)
    replace = os.replace

    def full(source, target):
        third_epoch = target.suffix == ".pt" and len(mini.journal()) == 7
        if target.suffix == ".npz" if where == "result" else third_epoch:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match="seed 0, stopped: there is no room left on the disk; free some"):
            obtain([mini.job(0), mini.job(1)], store=mini.store, workers=1)
    assert mini.store.state(mini.job(0)) is State.MISSING and mini.store.state(mini.job(1)) is State.FRESH
    assert not list(mini.store.root.rglob("*.npz.tmp"))
    before = len(mini.journal())
    (result,) = obtain([mini.job(0)], store=mini.store, workers=1)
    np.testing.assert_array_equal(result.arrays["values"], values(0, 4))
    assert len(mini.journal()) - before == (0 if where == "result" else 2)


class FakeTorch:
    threads = 8

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, count):
        self.threads = count


def test_a_run_has_the_threads_of_its_configuration_and_gives_them_back(mini, monkeypatch):
    """Bits repeat for one number of threads only, and a notebook that computes in its own process keeps its own."""
    torch = FakeTorch()
    torch.__version__ = "9.9"
    monkeypatch.setitem(sys.modules, "torch", torch)
    mini.edit("journal(f", "assert __import__('sys').modules['torch'].threads == 3; journal(f", "run.py")
    mini.edit("    rate: float = 0.5", "    rate: float = 0.5\n    threads: int = 3", "run.py")
    (result,) = obtain([mini.job()], store=mini.store, workers=1)
    assert torch.threads == 8 and result.meta["threads"] == 3 and result.meta["torch"] == "9.9"


# --- interruption and company -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_a_killed_run_resumes_and_ends_as_if_it_had_not_been(mini, epochs_before):
    process = mini.script("obtain([job(2, epochs=5, pause=0.15)], store=store, workers=1)")
    wait_for(lambda: len(mini.journal()) >= epochs_before)
    process.kill()
    process.communicate()
    ran = len(mini.journal())
    assert ran < 5 and mini.store.records() == []
    (result,) = obtain([mini.job(2, epochs=5, pause=0.15)], store=mini.store, workers=1)
    np.testing.assert_array_equal(result.arrays["values"], values(2, 5))
    assert len(mini.journal()) <= 6  # only the epoch that had no checkpoint yet may be repeated
    assert nothing_left_over(mini.store)


def test_an_interrupted_sweep_keeps_checkpoints_and_ends_its_processes(mini):
    process = mini.script("obtain([job(s, epochs=50, pause=0.1) for s in (0, 1)], store=store, workers=2)")
    wait_for(lambda: {line.split()[0] for line in mini.journal()} == {"0", "1"})
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode != 0 and "Interrupted: 0 of 2 runs are recorded" in out and "KeyboardInterrupt" in err
    count = len(mini.journal())
    time.sleep(0.5)
    assert len(mini.journal()) == count
    assert len(list((mini.store.root / ".checkpoints").glob("*.pt"))) == 2


def test_two_processes_that_want_the_same_compute_it_once(mini):
    body = "print(obtain([job(0, epochs=5, pause=0.1)], store=store, workers=1)[0].meta['created'])"
    processes = [mini.script(body), mini.script(body)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert mini.journal() == [f"0 {epoch}" for epoch in range(1, 6)]
    assert outputs[0][0].splitlines()[-1] == outputs[1][0].splitlines()[-1]
    assert sum("waiting for another process that computes mini_plain (tiny), seed 0" in out for out, _ in outputs) == 1


def test_a_sweep_in_processes_says_how_far_it_is(mini):
    lines = []
    jobs = [mini.job(seed, epochs=8, pause=0.3) for seed in (0, 1)]
    obtain(jobs, store=mini.store, workers=2, progress=lines.append)
    assert lines[0].endswith("on 2 processes.") and 4 <= len(lines) <= 11
    assert re.fullmatch(r"  0 of 2 runs, \d+ %(, about \d+ s left)?", lines[1])
    assert lines[-1] == "  2 of 2 runs, 100 %"
    assert nothing_left_over(mini.store)


def test_progress_is_weighted_by_cost_and_counts_only_todays_work(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = Report({"long": 90.0, "short": 10.0}, lines.append, resumed=["long"])
    report.seen("long", 1, 3)  # resumed: a third was there before
    now[0] = 30.0
    report.seen("long", 2, 3)
    report.seen("long", 2, 3)
    report.finished("short")
    now[0] = 100.0
    report.finished("long")
    assert lines == [
        "  0 of 2 runs, 30 %",
        "  0 of 2 runs, 60 %, about 40 s left",
        "  1 of 2 runs, 70 %, about 22 s left",
        "  2 of 2 runs, 100 %",
    ]


def test_progress_of_a_new_run_counts_from_its_start(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    report = Report({"run": 1.0}, lines.append)
    now[0] = 30.0
    report.seen("run", 1, 4)
    assert lines == ["  0 of 1 run, 25 %, about 2 min left"]


def test_progress_never_exceeds_ten_lines():
    lines = []
    report = Report({str(key): 1.0 for key in range(7)}, lines.append)
    for step in range(1, 101):
        for key in report.seconds:
            report.seen(key, step, 100)
    for key in report.seconds:
        report.finished(key)
    assert len(lines) == 10


# --- attesting --------------------------------------------------------------------------------------------------------


def test_attesting_needs_equal_bits(mini, monkeypatch):
    SimpleRecipes(mini).install(monkeypatch)
    old = mini.store.code("mini")
    with pytest.raises(LabError, match="is today's code"):
        attest("mini", old, mini.store)
    with pytest.raises(LabError, match="no recorded tiny result"):
        attest("mini", "0" * 12, mini.store)
    plain = mini.job().config
    noisy = dataclasses.replace(plain, data=dataclasses.replace(plain.data, label_noise=0.25))
    varied = type(mini.job())("mini", noisy, 1, "mini_plain", "tiny")
    obtain([mini.job(0), mini.job(1), varied], store=mini.store, workers=1)
    large = type(mini.job())("mini", mini.job(epochs=6).config, 0, "mini_plain", "paper")
    obtain([large], store=mini.store, workers=1)

    mini.edit()
    mini.forget()
    with pytest.raises(LabError, match="other bits in values: nothing was attested"):
        attest("mini", old, mini.store)
    assert mini.store.state(large) is State.STALE

    mini.edit("STEP = 2.0", "STEP = 0.5 + 0.5")
    mini.forget()
    evidence = attest("mini", old, mini.store)
    assert evidence == "tiny results repeated bit for bit: mini_plain seed 0, mini_plain seed 1", (
        "one of each configuration"
    )
    (result,) = obtain([large], store=mini.store, mode="read")
    assert result.meta["attested"]["evidence"] == evidence and result.meta["code"] == old


# --- seeds and durations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("0,2,5", [0, 2, 5]), ("7, 1-2,1", [7, 1, 2]), ("3", [3])]
)
def test_seeds_are_understood(text, seeds):
    assert parse_seeds(text) == seeds
    assert parse_seeds(format_seeds(seeds)) == sorted(seeds)


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "1-", "0,,2", "1.5", "0-9999999", "²"])
def test_wrong_seeds_are_one_sentence(text):
    with pytest.raises(LabError, match="give numbers and rising ranges"):
        parse_seeds(text)


def test_durations_read_well():
    assert [duration(s) for s in (0.2, 89, 100, 7100, 7500)] == ["1 s", "89 s", "2 min", "118 min", "2 h 5 min"]
