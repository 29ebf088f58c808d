"""The lab's command line, and which data it takes."""

import csv
import dataclasses
import hashlib
import json
import subprocess
import sys
import types

import numpy as np
import pytest

import nas_core
from nas_core.lab import experiments
from nas_core.lab.__main__ import main
from nas_core.lab.store import Job, MissingResult, State, Store
from nas_core.lab.sweep import obtain
from tests.lab_mini import REPOSITORY, mini  # noqa: F401


class DataError(ValueError):
    """Stands in for nas_core.data.DataError."""


@pytest.fixture
def lab(mini, monkeypatch):
    """The mini experiment under the name that the command line runs, with recipes and data of its own."""
    from mini.run import Config, DataConfig

    def mini_plain(scale):
        """A plain sum.

        More words.
        """
        embedded = DataConfig("digits", None, images=40, label_noise=0.25)
        data = embedded if scale == "tiny" else DataConfig("cifar10", None)
        return Config(epochs={"tiny": 2, "small": 3, "paper": 4}[scale], data=data)

    recipes = types.ModuleType("nas_core.lab.recipes")
    other = lambda scale: dataclasses.replace(mini_plain(scale), rate=0.1)
    recipes.RECIPES = {"mini_plain": mini_plain, "mini_other": other}
    data = FakeData()
    monkeypatch.setitem(sys.modules, "nas_core.lab.recipes", recipes)
    monkeypatch.setitem(sys.modules, "nas_core.data", data)
    monkeypatch.setattr(nas_core, "data", data, raising=False)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"search": "mini.run:run"})
    monkeypatch.setenv("NAS_RESULTS_ROOT", str(mini.store.root))
    return types.SimpleNamespace(data=data, store=Store(), mini=mini, recipes=recipes.RECIPES)


def hash_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


class FakeData(types.ModuleType):
    """Datasets that this machine has; the sha256 is that of the name."""

    def __init__(self):
        super().__init__("nas_core.data")
        self.here = {"digits"}
        self.downloaded = []
        self.DataError = DataError

    def auto(self):
        return next(name for name in ("cifar10", "cifar10-jpeg", "digits") if name in self.here)

    def resolve(self, config):
        if config.dataset not in self.here:
            raise DataError(f"There is no dataset {config.dataset!r} here: give digits.")
        return dataclasses.replace(config, sha256=hash_of(config.dataset))

    def load(self, name, *, download=False):
        assert download
        self.downloaded.append(name)
        self.here.add(name)


def run_tiny(*options):
    return main(["run", "mini_plain", "--workers", "1", *options])


# --- the commands -----------------------------------------------------------------------------------------------------


def test_list_before_anything_is_recorded(lab, capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "  mini_plain  A plain sum.\n" in out and "More words" not in out and "Recorded results: none yet" in out
    assert not lab.store.root.exists()


def test_run_records_and_list_shows_one_line_each(lab, capsys):
    assert run_tiny("--seeds", "0,3") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Dataset digits, the recipe's own."
    assert out[1] == "2 runs, about 1 s on 1 process."
    assert out[-1].startswith("mini_plain (tiny), seeds 0,3: FRESH in ")
    lab.mini.edit()
    (lab.store.root / "stray.npz").write_text("x")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[lines.index("Recorded results: 3") + 1 :]]
    assert rows[0] == "state experiment ident recipe scale seed dataset device seconds date".split()
    assert [row[0] for row in rows[1:]] == ["STALE", "STALE", "BROKEN"]
    assert [row[3:8] for row in rows[1:3]] == [["mini_plain", "tiny", seed, "digits", "cpu"] for seed in "03"]


def test_run_twice_computes_once_and_refresh_anew(lab, capsys, monkeypatch):
    for mode, journal in (("read", 2), ("auto", 2), ("refresh", 4)):
        monkeypatch.setenv("NAS_RESULTS", mode)
        assert run_tiny("--seeds", "0") == 0
        assert len(lab.mini.journal()) == journal


def test_run_takes_epochs_scale_and_minutes(lab, capsys):
    assert run_tiny("--scale", "small", "--epochs", "7", "--seeds", "0-2", "--minutes", "0.001") == 0
    out = capsys.readouterr().out
    assert "1 of 3 results" in out and "seeds 0: FRESH" in out
    (record,) = lab.store.records()
    assert (record.meta["scale"], record.meta["config"]["epochs"], record.meta["seed"]) == ("small", 7, 0)


def test_state_tells_by_its_exit_code(lab, capsys):
    assert main(["state"]) == 0
    run_tiny("--seeds", "0-1")
    capsys.readouterr()
    assert main(["state"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3 and out[0].startswith("FRESH   search/") and out[-1] == "2 recorded results: 2 FRESH."
    lab.mini.edit()
    assert main(["state"]) == 1
    assert "2 STALE" in capsys.readouterr().out
    lab.mini.edit("STEP = 2.0", "STEP = 1.0")
    next(lab.store.root.rglob("s1-*.npz")).write_text("damaged")
    assert main(["state"]) == 1
    out = capsys.readouterr().out
    assert "BROKEN  search/" in out and "delete the file" in out and "1 FRESH, 1 BROKEN" in out


def test_export_as_json(lab, capsys, tmp_path):
    run_tiny("--seeds", "0-1")
    folder = lab.store.folder(Job("search", resolved(lab), 0))
    lab.store.write(Job("search", resolved(lab), 2, "mini_plain", "tiny"), {"x": np.array([[np.nan, 1.5]], np.float32)})
    assert main(["export", folder.name, "--format", "json", "--out", str(tmp_path / "o.json")]) == 0
    content = json.loads((tmp_path / "o.json").read_text())
    assert [item["meta"]["seed"] for item in content] == [0, 1, 2]
    assert content[1]["arrays"]["values"] == [1.0, 1.5, 1.75] and content[1]["arrays"]["nothing"] == []
    assert content[2]["arrays"] == {"x": [[None, 1.5]]}


def test_export_as_csv(lab, capsys, tmp_path):
    run_tiny("--seeds", "1")
    cost = np.arange(2, dtype=np.float32).reshape(1, 1, 1, 1, 2) + np.float32(0.1)
    arrays = {"cost": cost, "n": np.array(3), "wide": np.array([0.1 + 0.2])}
    lab.store.write(Job("search", resolved(lab), 2, "mini_plain", "tiny"), arrays)
    assert main(["export", "mini_plain", "--format", "csv", "--out", str(tmp_path / "o.csv")]) == 0
    rows = list(csv.reader((tmp_path / "o.csv").open()))
    assert rows[0] == "recipe scale seed array i0 i1 i2 i3 i4 value".split()
    assert ["mini_plain", "tiny", "1", "values", "2", "", "", "", "", "1.75"] in rows
    assert ["mini_plain", "tiny", "2", "cost", "0", "0", "0", "0", "1", "1.1"] in rows
    assert ["mini_plain", "tiny", "2", "n", "", "", "", "", "", "3"] in rows
    assert ["mini_plain", "tiny", "2", "wide", "0", "", "", "", "", "0.30000000000000004"] in rows


def test_export_leaves_stale_results_out(lab, capsys, tmp_path):
    run_tiny("--seeds", "0")
    lab.mini.edit()
    assert main(["export", "mini_plain", "--out", str(tmp_path / "o.csv")]) == 2
    assert "its 1 recorded results are STALE" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def test_attest_by_command(lab, capsys):
    run_tiny("--seeds", "0")
    old = lab.store.code("search")
    lab.mini.edit("STEP = 1.0", "STEP = 0.5 + 0.5")
    lab.mini.forget()
    assert main(["attest", "search", "--old", old]) == 0
    assert "now count as FRESH" in capsys.readouterr().out
    assert main(["state"]) == 0
    assert "attested: tiny results repeated bit for bit: mini_plain seed 0" in capsys.readouterr().out


def resolved(lab):
    return experiments.resolve_dataset(lab.recipes["mini_plain"]("tiny"), "search", lab.store, None)[0]


# --- wrong values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "mini_plane"], "There is no recipe 'mini_plane'; did you mean mini_plain?"),
        (["run", "x"], "There is no recipe 'x'; there is mini_other, mini_plain."),
        (["run", "mini_plain", "--scale", "huge"], "There is no scale 'huge'; it must be one of tiny, small, paper."),
        (["run", "mini_plain", "--seeds", "4-0"], "Seeds '4-0' are not understood"),
        (["run", "mini_plain", "--seeds", "a"], "Seeds 'a' are not understood"),
        (["run", "mini_plain", "--epochs", "0"], "Argument --epochs: '0' is not a whole number from 1 on"),
        (["run", "mini_plain", "--epochs", "1.5"], "'1.5' is not a whole number"),
        (["run", "mini_plain", "--epochs", "[1, 2]"], "'[1, 2]' is not a whole number"),
        (["run", "mini_plain", "--workers", "none"], "Argument --workers: 'none' is not a whole number from 1 on"),
        (["run", "mini_plain", "--minutes", "-1"], "'-1' is not a number above 0"),
        (["run", "mini_plain", "--minutes", "nan"], "'nan' is not a number above 0"),
        (["run", "mini_plain", "--device", "tpu"], "device is 'tpu'; it must be cpu, cuda or cuda:<number>."),
        (["run", "mini_plain", "--dataset", "imagenet"], "There is no dataset 'imagenet' here"),
        (["run"], "The following arguments are required: recipe"),
        (["run", "mini_plain", "--colour", "red"], "Unrecognized arguments: --colour red"),
        (["erase"], "invalid choice: 'erase'"),
        (["export", "x", "--out", "o.csv"], "Nothing to export for 'x': no result is recorded under this name"),
        (["export", "x", "--format", "xls", "--out", "o"], "invalid choice: 'xls'"),
        (["export", "x"], "required: --out"),
        (["attest", "other", "--old", "0"], "There is no experiment 'other'; there is search."),
        (["attest", "search", "--old", "0"], "no recorded tiny result of search by the code 0"),
    ],
)
def test_a_wrong_value_is_one_sentence(lab, capsys, arguments, sentence):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err and not lab.store.records()


@pytest.mark.parametrize("out", ["absent/o.csv", "."])
def test_export_to_an_impossible_place(lab, capsys, tmp_path, out):
    run_tiny("--seeds", "0")
    capsys.readouterr()
    assert main(["export", "mini_plain", "--out", str(tmp_path / out)]) == 2
    assert "give" in capsys.readouterr().err


def test_a_wrong_mode(lab, capsys, monkeypatch):
    monkeypatch.setenv("NAS_RESULTS", "maybe")
    assert run_tiny() == 2
    assert capsys.readouterr().err == "NAS_RESULTS is 'maybe'; it must be one of auto, read, refresh.\n"


def test_a_recipe_that_refuses_its_parameters(lab, capsys):
    lab.recipes["mini_bad"] = lambda scale: dataclasses.replace(lab.recipes["mini_plain"](scale), epochs=0)
    assert main(["run", "mini_bad"]) == 2
    assert "mini_bad cannot be configured so: epochs is 0; give a whole number" in capsys.readouterr().err


def test_a_failed_run_is_one_sentence_and_keeps_the_others(lab, capsys):
    lab.recipes["mini_nan"] = lambda scale: dataclasses.replace(lab.recipes["mini_plain"](scale), failing=(1,))
    assert main(["run", "mini_nan", "--seeds", "0-2", "--workers", "1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "mini_nan (tiny), seed 1, stopped: the loss is NaN at step 17." in err
    assert [record.meta["seed"] for record in lab.store.records()] == [0, 2]


def test_the_program_itself_prints_no_traceback():
    process = subprocess.run(
        [sys.executable, "-m", "nas_core.lab", "run", "--nonsense"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1 and "Traceback" not in process.stderr


# --- which data -------------------------------------------------------------------------------------------------------


def record_on(lab, name):
    config = experiments.with_dataset(lab.recipes["mini_plain"]("tiny"), name, hash_of(name))
    return lab.store.write(Job("search", config, 0), {"x": np.zeros(1)})


def auto(lab, **changes):
    config = dataclasses.replace(lab.recipes["mini_plain"]("tiny"), **changes)
    return experiments.resolve_dataset(config, "search", lab.store, "auto")


def test_auto_takes_the_recorded_then_the_machine_then_digits(lab):
    config, sentence = auto(lab)
    assert (config.data.dataset, config.data.sha256) == ("digits", hash_of("digits"))
    assert "no CIFAR-10 was found here" in sentence

    lab.data.here.add("cifar10")
    config, sentence = auto(lab)
    assert config.data.dataset == "cifar10" and "found on this machine" in sentence

    record_on(lab, "cifar10-jpeg")
    config, sentence = auto(lab)
    assert config.data.dataset == "cifar10-jpeg" and "recorded result" in sentence
    assert lab.store.state(Job("search", config, 0)) is State.FRESH

    config, sentence = auto(lab, rate=0.25)  # recorded, but for other parameters
    assert config.data.dataset == "cifar10"


def test_auto_does_not_take_stale_or_embedded_recorded_data(lab):
    record_on(lab, "cifar10-jpeg")
    lab.mini.edit()
    config, sentence = auto(lab)
    assert config.data.dataset == "digits" and "is STALE" in sentence
    record_on(lab, "digits")
    assert auto(lab)[0].data.dataset == "digits"


def test_a_named_dataset_that_this_machine_lacks(lab):
    def named(name):
        return experiments.resolve_dataset(lab.recipes["mini_plain"]("tiny"), "search", lab.store, name)

    with pytest.raises(DataError):
        named("cifar10-jpeg")
    record_on(lab, "cifar10-jpeg")
    config, sentence = named("cifar10-jpeg")
    assert config.data.sha256 == hash_of("cifar10-jpeg") and "this machine does not have it" in sentence
    assert lab.data.downloaded == []
    assert named("cifar10")[1] == "Dataset cifar10, downloaded." and lab.data.downloaded == ["cifar10"]
    assert named("digits")[1] == "Dataset digits, as asked for."
    assert lab.data.downloaded == ["cifar10"]


def test_run_takes_the_best_data_for_a_recipe_made_for_cifar_and_downloads_only_when_told(lab, capsys):
    assert run_tiny("--scale", "small", "--seeds", "0", "--label-noise", "0.125") == 0
    assert capsys.readouterr().out.startswith("Dataset digits, embedded, as no CIFAR-10 was found here.")
    (folder,) = (lab.store.root / "search").iterdir()
    taken = json.loads((folder / "config.json").read_text())["config"]["data"]
    assert (taken["images"], taken["label_noise"]) == (40, 0.125), (
        "the digits bring their own images, the caller's noise stays"
    )
    lab.data.here.add("cifar10-jpeg")
    assert run_tiny("--scale", "small", "--seeds", "0") == 0
    assert capsys.readouterr().out.startswith("Dataset cifar10-jpeg, found on this machine.")
    assert lab.data.downloaded == []
    assert run_tiny("--scale", "small", "--seeds", "0", "--dataset", "cifar10") == 0
    assert lab.data.downloaded == ["cifar10"]


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar10-jpeg"])
def test_the_command_in_an_error_computes_what_was_missing(lab, capsys, monkeypatch, dataset):
    lab.data.here |= {"cifar10", "cifar10-jpeg"}
    given = {"epochs": 5, "images": 30, "label_noise": 0.5}
    config, _ = experiments.settle("mini_plain", "small", "search", lab.store, dataset, **given)
    other = experiments.with_dataset(
        config, "cifar10-jpeg", hash_of("cifar10-jpeg")
    )  # what the command would take if it named none
    lab.store.write(Job("search", other, 0), {"x": np.zeros(1)})
    jobs = [Job("search", config, seed, "mini_plain", "small") for seed in (1, 2)]
    with pytest.raises(MissingResult) as error:
        obtain(jobs, mode="read", store=lab.store)
    typed = str(error.value).partition("python -m nas_core.lab ")[2].split()
    assert main([*typed, "--workers", "1"]) == 0
    assert [result.meta["seed"] for result in obtain(jobs, mode="read", store=lab.store)] == [1, 2]


def test_a_damaged_config_json_hides_no_recorded_data(lab):
    record_on(lab, "cifar10")
    (lab.store.root / "search/000000000000").mkdir()
    (lab.store.root / "search/000000000000/config.json").write_text("[")
    assert auto(lab)[0].data.dataset == "cifar10"
