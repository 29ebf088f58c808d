"""Sweeps on a dask cluster: nothing is lost with a worker, nothing outlives a sweep, and errors are sentences.

`python -m tests.test_lab_cluster` kills a worker and writes anew what the book shows of it."""

import itertools
import os
import re
import signal
import sys
import threading
import time

import dask
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster

from nas_core.lab import __main__ as command
from nas_core.lab import cluster
from nas_core.lab.code import LabError
from nas_core.lab.store import Store
from nas_core.lab.sweep import RunError, obtain
from tests.conftest import ROOT
from tests.lab_mini import forget, mini  # noqa: F401
from tests.test_lab_cli import lab  # noqa: F401
from tests.test_lab_sweep import nothing_left_over, values, wait_for

TRANSCRIPT = ROOT / "book" / "_assets" / "killed_worker.txt"
REWRITE = "NAS_WRITE_TRANSCRIPT"


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A client of three processes with one thread each; a new process takes the place of a killed one."""
    folder = tmp_path_factory.mktemp("dask")
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "local_directory": folder}
    with LocalCluster(n_workers=3, **options) as local, Client(local) as client:
        yield client


@pytest.fixture
def workers(mini, three):
    """The same for one test: the processes know the package of `mini`, and no other test's."""
    three.wait_for_workers(3)
    three.run(introduce, str(mini.source), os.environ["MINI_JOURNAL"])
    return three


def introduce(source, journal):
    forget()
    sys.path.insert(0, source)
    os.environ["MINI_JOURNAL"] = journal


def with_process_in_journal(mini):
    mini.edit("journal(f\"{seed} {state['epoch']}\")", "journal(f\"{seed} {state['epoch']} {os.getpid()}\")", "run.py")


def kill_first_to_reach(mini, epoch, killed):
    """Kill the process that first journals this epoch; `killed` takes (seed, process)."""
    wait_for(lambda: any(line.split()[1] == epoch for line in mini.journal()))
    seed, _, process = next(line for line in mini.journal() if line.split()[1] == epoch).split()
    os.kill(int(process), signal.SIGKILL)
    killed.append((seed, process))


def told(journal, killed, progress):
    """Who did which epoch of which run, in words; processes are workers A, B, ... in the order of their first epoch."""
    names = {
        process: f"worker {chr(65 + place)}" for place, process in enumerate(dict.fromkeys(by for *_, by in journal))
    }
    lines = [f"{names[killed[1]]} is killed (SIGKILL) as it ends epoch 3 of seed {killed[0]}"]
    for seed in sorted({of for of, *_ in journal}, key=int):
        mine = [(epoch, by) for of, epoch, by in journal if of == seed]
        parts = [
            f"epochs {' '.join(epoch for epoch, _ in own)} on {names[process]}{', killed' if (seed, process) == killed else ''}"
            for process, own in itertools.groupby(mine, key=lambda line: line[1])
        ]
        lines.append(f"seed {seed}: {'; '.join(parts)}")
    return (
        "\n".join([*lines, progress.strip(), "every value equals, bit for bit, that of the same runs in one process"])
        + "\n"
    )


def test_a_killed_worker_loses_nothing(mini, workers, tmp_path):
    with_process_in_journal(mini)
    jobs, killed, lines = [mini.job(seed, epochs=6, pause=0.15) for seed in range(5)], [], []
    killer = threading.Thread(target=kill_first_to_reach, args=(mini, "3", killed))
    killer.start()
    with joblib.parallel_config(backend="dask"):
        results = obtain(jobs, store=mini.store, progress=lines.append)
    killer.join()

    ((seed, process),) = killed
    journal = [line.split() for line in mini.journal()]
    mine = [(int(epoch), by) for of, epoch, by in journal if of == seed]
    assert {by for _, by in mine} > {process} and str(os.getpid()) not in {by for *_, by in journal}
    assert [epoch for epoch, _ in mine] in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 3, 4, 5, 6]), "resumed, not begun again"
    assert len(journal) in (30, 31) and nothing_left_over(mini.store)
    assert lines[0].endswith("on 3 processes.") and lines[-1] == "  5 of 5 runs, 100 %"

    plain = obtain(jobs, store=Store(tmp_path / "plain", mini.store.experiments), workers=1)
    for result, expected, job in zip(results, plain, jobs, strict=True):
        assert result.arrays["values"].tobytes() == expected.arrays["values"].tobytes()
        np.testing.assert_array_equal(result.arrays["values"], values(job.seed, 6))

    text = told(journal, (seed, process), lines[-1])
    if os.environ.get(REWRITE):
        TRANSCRIPT.write_text(text, encoding="utf-8")
    assert shape(text) == shape(TRANSCRIPT.read_text(encoding="utf-8")), "the book shows another outcome"


def shape(text):
    """What does not depend on which worker was where: the lines, without letters and numbers, one of them in two parts."""
    plain = [re.sub(r"worker [A-Z]", "worker", re.sub(r"epochs [\d ]+", "epochs ", line)) for line in text.splitlines()]
    first, *runs, progress, last = plain
    return re.sub(r"\d", "", first), sorted(re.sub(r"seed \d", "seed", line) for line in runs), progress, last


def test_an_interrupted_sweep_ends_its_runs_on_the_workers(mini, workers):
    address = workers.cluster.scheduler_address
    process = mini.script(f"""
        from nas_core.lab.cluster import dask
        with dask({address!r}):
            obtain([job(seed, epochs=60, pause=0.1) for seed in range(4)], store=store)
    """)
    wait_for(lambda: len({line.split()[0] for line in mini.journal()}) == 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert "Interrupted: 0 of 4 runs are recorded" in out and "KeyboardInterrupt" in err
    time.sleep(0.5)
    count = len(mini.journal())
    time.sleep(0.5)
    assert len(mini.journal()) == count and len({line.split()[0] for line in mini.journal()}) == 3
    checkpoints = mini.store.root / ".checkpoints"
    assert len(list(checkpoints.glob("*.pt"))) == 3 and not list(checkpoints.glob("*.sweep"))


def test_a_failing_run_is_named_and_the_others_are_recorded(mini, workers):
    jobs = [mini.job(seed, failing=(1,)) for seed in range(3)]
    with joblib.parallel_config(backend="dask"), pytest.raises(RunError) as error:
        obtain(jobs, store=mini.store, workers=2)
    assert str(error.value) == (
        "mini_plain (tiny), seed 1, stopped: the loss is NaN at step 17. The other 2 runs finished and are recorded."
    )
    assert "run.py" in error.value.__notes__[0]
    mini.edit()  # the workers keep the code that they know
    mini.forget()
    with joblib.parallel_config(backend="dask"), pytest.raises(RunError, match="restart the process"):
        obtain([mini.job(0), mini.job(1)], store=mini.store)


def test_an_estimate_that_fails_on_a_worker_is_one_sentence(mini, workers):
    mini.edit("return config.seconds", "raise ValueError('no data')", "run.py")
    with joblib.parallel_config(backend="dask"), pytest.raises(RunError, match="cannot start: ValueError: no data"):
        obtain([mini.job()], store=mini.store)


def test_the_command_line_takes_a_scheduler(lab, workers, capsys):
    address = workers.cluster.scheduler_address
    assert command.main(["run", "mini_plain", "--seeds", "0-1", "--scheduler", address]) == 0
    out = capsys.readouterr().out
    assert "2 runs, about 1 s on 2 processes." in out and "seeds 0,1: FRESH" in out.replace("0-1", "0,1")
    with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
        assert command.main(["run", "mini_plain", "--scheduler", "tcp://127.0.0.1:1", "--seeds", "5"]) == 2
    assert capsys.readouterr().err.startswith("No dask scheduler answers at 'tcp://127.0.0.1:1'; give an address")


def test_workers_of_two_threads_are_refused(mini):
    options = {"processes": False, "threads_per_worker": 2, "dashboard_address": ":0"}
    refused = pytest.raises(LabError, match="runs 2 tasks at once")
    with LocalCluster(n_workers=1, **options) as local, Client(local), joblib.parallel_config(backend="dask"), refused:
        obtain([mini.job()], store=mini.store)
    assert mini.journal() == []


def test_joblibs_own_backends_leave_a_sweep_as_it_is(mini):
    for name in ("threading", "loky", "multiprocessing"):
        with joblib.parallel_config(backend=name, n_jobs=2):
            assert cluster.engine() is None


def test_a_worker_that_does_not_share_the_folder_says_so(tmp_path):
    with cluster.attended(tmp_path / "new") as sweep:
        cluster.check_attended(sweep)
        cluster.AttendedBeat(tmp_path / "beat", sweep)(1, 2)
    with pytest.raises(cluster.Unattended, match="point NAS_RESULTS_ROOT to one that all machines share"):
        cluster.AttendedBeat(tmp_path / "beat", sweep)(2, 2)


def test_a_result_may_be_seen_late_but_not_never(tmp_path, monkeypatch):
    late = tmp_path / "late"
    timer = threading.Timer(0.2, late.touch)
    timer.start()
    cluster.wait_until_shown([late])
    monkeypatch.setattr(cluster, "SHOWN_WITHIN", 0.0)
    with pytest.raises(LabError, match="never, but this machine does not see it"):
        cluster.wait_until_shown([tmp_path / "never"])


@pytest.mark.timeout(120)
def test_what_dask_gives_up_is_one_sentence_and_one_worker_is_a_cluster(mini, workers, monkeypatch):
    """joblib alone waits for ever here, or computes in this process. The last test: it leaves one worker."""
    away = f"assert os.getpid() != {os.getpid()}"
    mini.edit("time.sleep(config.pause)", f"{away}; os.kill(os.getpid(), 9) if seed else None", "run.py")
    monkeypatch.setattr(workers.cluster.scheduler, "allowed_failures", 0)
    workers.cluster.scale(1)
    wait_for(lambda: len(workers.nthreads()) == 1)
    jobs = [mini.job(seed) for seed in (0, 1)]
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(LabError, match=r"^The cluster gave up \(KilledWorker: "),
    ):
        obtain(jobs, store=mini.store, workers=1)
    assert mini.store.state(jobs[0]).name == "FRESH" and not list(mini.store.root.rglob("*.sweep"))


if __name__ == "__main__":
    os.environ[REWRITE] = "yes"
    raise SystemExit(pytest.main([__file__, "-n0", "-q", "-k", "killed_worker"]))
