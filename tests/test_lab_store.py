"""The store: what names a result, which states it knows, and what it does with damage and with a full disk."""

import dataclasses
import errno
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_core.lab import code as lab_code
from nas_core.lab import store as lab_store
from nas_core.lab.code import LabError, fingerprint, load, sources
from nas_core.lab.store import DiskFull, Job, MissingResult, ResultError, StaleResult, State, Store, describe, ident
from tests.lab_mini import mini  # noqa: F401

ARRAYS = {"b": np.arange(6, dtype=np.int64).reshape(2, 3), "a": np.array([0.5, np.nan], np.float32), "c": np.array(1.0)}


# --- the code's fingerprint -------------------------------------------------------------------------------------------


def test_fingerprint_ignores_what_does_not_run(mini):
    before = fingerprint("mini.run")
    mini.edit("STEP = 1.0  # a step", "\n# another comment\nSTEP   =   (1.0)")
    mini.edit('"""Constants."""', '"""Other words."""')
    mini.edit('"""Values over epochs."""', '"""Other\n    words."""', "run.py")
    mini.edit("OTHER = 1", "OTHER = 2", "unused.py")
    assert fingerprint("mini.run") == before


@pytest.mark.parametrize(
    ("before", "after", "file"),
    [
        ("STEP = 1.0", "STEP = 1.5", "constants.py"),
        ("STEP = 1.0", "STEP = 1", "constants.py"),
        ("config.rate *", "config.rate +", "run.py"),
        ("", "import mini.unused", "__init__.py"),  # a parent package runs too
    ],
)
def test_fingerprint_sees_every_statement(mini, before, after, file):
    first = fingerprint("mini.run")
    mini.edit(before, after, file)
    assert fingerprint("mini.run") != first


@pytest.mark.parametrize(
    ("module", "statement", "found"),
    [
        ("mini.user", "import mini.unused", {"mini", "mini.user", "mini.unused"}),
        ("mini.user", "from mini import unused", {"mini", "mini.user", "mini.unused"}),
        ("mini.user", "from mini.unused import OTHER", {"mini", "mini.user", "mini.unused"}),
        ("mini.user", "from . import unused", {"mini", "mini.user", "mini.unused"}),
        ("mini.user", "from .unused import OTHER", {"mini", "mini.user", "mini.unused"}),
        (
            "mini.user",
            "def late():\n    from .sub.deep import X",
            {"mini", "mini.user", "mini.sub", "mini.sub.deep", "mini.unused"},
        ),
        ("mini.user", "import numpy, minimal", {"mini", "mini.user"}),
    ],
)
def test_fingerprint_follows_imports_without_importing(mini, module, statement, found):
    (mini.source / "mini/sub").mkdir()
    (mini.source / "mini/sub/__init__.py").write_text("raise RuntimeError('imported')\n")
    (mini.source / "mini/sub/deep.py").write_text("from ..unused import OTHER\nX = 1\n")
    (mini.source / "mini/user.py").write_text(statement + "\n")
    assert set(sources(module)) == found


def test_fingerprint_of_a_missing_or_broken_module(mini):
    with pytest.raises(LabError, match="mini.absent"):
        fingerprint("mini.absent")
    (mini.source / "mini/unused.py").write_text("def (:\n")
    with pytest.raises(LabError, match="unused.py cannot be read"):
        fingerprint("mini.unused")


def test_fingerprint_is_the_same_in_every_place_and_version(tmp_path, monkeypatch):
    """Golden: the fingerprint of a fixed source may change only together with every recorded result."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden/__init__.py").write_text("")
    (tmp_path / "golden/code.py").write_text(
        "import numpy as np\n@staticmethod\ndef f(a, /, b=1, *c, d=None, **e) -> int:\n"
        "    'doc'\n    return a[1:] @ b\n"
        "class C(int):\n    x: int = 3\n    y = {**{}, 'a': 1.0, u'b': b'c'}\n"
        "async def g():\n    async with f() as h: yield h\n"
        "match g:\n    case [1, *_]: print(f'{g!r:>3}')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fingerprint("golden.code") == "45ae23f0e0ff"


def test_sources_are_read_again_only_when_one_was_touched(mini, monkeypatch):
    """With the rule for files that were just written switched off, for the fixture writes its package at once."""
    reads = []
    parsed = lab_code._parsed
    monkeypatch.setattr(lab_code, "_parsed", lambda *given: reads.append(given) or parsed(*given))
    fingerprint("mini.run"), reads.clear()
    fingerprint("mini.run")
    assert reads, "what was written within the clock's tick is not trusted"
    monkeypatch.setattr(lab_code, "SETTLED_NS", 0)
    first = fingerprint("mini.run")
    reads.clear()
    assert fingerprint("mini.run") == first and not reads
    time.sleep(0.05)
    mini.edit()  # to a text of the same size
    assert fingerprint("mini.run") != first and reads


def test_a_file_that_is_added_counts(mini, monkeypatch):
    monkeypatch.setattr(lab_code, "SETTLED_NS", 0)
    mini.edit("from mini.constants import STEP", "from mini.constants import STEP\nfrom mini import extra", "run.py")
    mini.edit("", "extra = None", "__init__.py")
    first = fingerprint("mini.run")
    time.sleep(0.05)
    (mini.source / "mini/extra.py").write_text("OTHER = 3\n")
    assert fingerprint("mini.run") != first


def test_code_loaded_before_an_edit_is_not_run_as_new_code(mini):
    code = fingerprint("mini.run")
    load("mini.run", code)
    mini.edit()
    with pytest.raises(LabError, match="restart the process"):
        load("mini.run", fingerprint("mini.run"))


# --- the configuration's name -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Twin:
    rate: float = 0.1
    steps: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Outer:
    inner: object = Inner()
    name: object = "a"


def test_ident_names_content_and_classes():
    base = ident("mini", Outer())
    assert len(base) == 12 and base == ident("mini", Outer(Inner(steps=[1, 2])))
    others = [Outer(Twin()), Outer(Inner(0.2)), Outer(name="b"), Outer(name=None), Outer(name=1), Outer(name=True)]
    assert len({base, ident("other", Outer()), *(ident("mini", other) for other in others)}) == 8


def test_describe_is_the_plain_asdict_with_class_names():
    config = Outer(inner=(Inner(), Twin()), name={"k": (1, 2.5)})
    description = describe(config)
    assert description["config"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert description["classes"] == {"": "Outer", "inner[0]": "Inner", "inner[1]": "Twin"}


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_ident_tells_floats_apart_by_repr(left, right):
    same = ident("mini", Outer(name=left)) == ident("mini", Outer(name=right))
    assert same == (repr(left) == repr(right))


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float64(1), {1, 2}, {1: 2}, object(), Inner, b"x"])
def test_a_value_without_a_name_is_refused(value):
    with pytest.raises(LabError, match=r"configuration's inner\.rate is"):
        ident("mini", Outer(Inner(rate=value)))


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(LabError, match="seed must be a whole number"):
        Job("mini", Outer(), seed)


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_result_comes_back_as_it_was_written(mini):
    job = mini.job(3)
    path = mini.store.write(job, ARRAYS, {"seconds": 1.5, "device": "cpu"})
    result = mini.store.read(job)
    place = ("mini", ident("mini", job.config), f"s3-{mini.store.code('mini')}.npz")
    assert path.relative_to(mini.store.root).parts == place
    assert list(result.arrays) == ["a", "b", "c"]
    for name, array in ARRAYS.items():
        assert result.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(result.arrays[name], array)
    meta = result.meta
    assert meta["config"] == dataclasses.asdict(job.config) | {"failing": []}
    assert meta["dataset"] == {"name": "digits", "sha256": "0" * 64}
    assert (meta["seed"], meta["recipe"], meta["scale"], meta["seconds"]) == (3, "mini_plain", "tiny", 1.5)
    assert meta["attested"] is None and meta["created"].endswith("+00:00")


def test_config_json_collects_the_names_that_led_there(mini):
    mini.store.write(mini.job(0), ARRAYS)
    mini.store.write(mini.job(1, recipe="another"), ARRAYS)
    content = json.loads((mini.store.folder(mini.job()) / "config.json").read_text())
    assert content["names"] == [{"recipe": "another", "scale": "tiny"}, {"recipe": "mini_plain", "scale": "tiny"}]
    assert content["ident"] == ident("mini", mini.job().config) and content["config"]["epochs"] == 4
    (mini.store.folder(mini.job()) / "config.json").write_text("{")
    mini.store.write(mini.job(2), ARRAYS)
    assert json.loads((mini.store.folder(mini.job()) / "config.json").read_text())["config"]["epochs"] == 4


def test_the_states_of_a_result(mini):
    store, job = mini.store, mini.job()
    assert store.state(job) is State.MISSING
    with pytest.raises(MissingResult) as missing:
        store.read(job)
    assert not isinstance(missing.value, StaleResult)
    assert "There is no recorded result of mini_plain (tiny), seed 0" in str(missing.value)
    old = store.write(job, ARRAYS)
    assert store.state(job) is State.FRESH
    assert store.state(mini.job(1)) is State.MISSING and store.state(mini.job(epochs=9)) is State.MISSING
    mini.edit()
    assert store.state(job) is State.STALE
    with pytest.raises(StaleResult, match="STALE"):
        store.read(job)
    new = store.write(job, ARRAYS)
    assert store.state(job) is State.FRESH and new.exists() and not old.exists()
    mini.edit("STEP = 2.0", "STEP = 1.0")
    assert store.state(job) is State.STALE


def test_a_result_counts_for_the_code_that_ran_it(mini):
    """The sources may change on the disk while a run goes on."""
    code = mini.store.code("mini")
    mini.edit()
    mini.store.write(mini.job(), ARRAYS, {"code": code})
    assert mini.store.state(mini.job()) is State.STALE


def damage_truncated(path, store, mini):
    path.write_bytes(path.read_bytes()[:-40])


def damage_flipped(path, store, mini):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def damage_empty(path, store, mini):
    path.write_bytes(b"")


def damage_text(path, store, mini):
    path.write_text("not an archive")


def damage_foreign_archive(path, store, mini):
    np.savez(path, x=np.arange(3))


def damage_pickle(path, store, mini):
    """Whole and in its place, but for an array that only unpickling, which may run anything, could read."""
    result = lab_store.load(path)
    text = json.dumps(result.meta).encode()
    content = {**result.arrays, "meta.json": np.frombuffer(text, np.uint8), "x": np.array([{}], dtype=object)}
    np.savez(path, **content)


def damage_bare_array(path, store, mini):
    with open(path, "wb") as file:
        np.save(file, np.arange(3))


def damage_other_seed(path, store, mini):
    other = store.write(mini.job(7), ARRAYS)
    os.replace(other, path)


def damage_other_config(path, store, mini):
    other = store.write(mini.job(0, epochs=7), ARRAYS)
    os.replace(other, path)


def damage_meta(path, store, mini):
    result = lab_store.load(path)
    meta = {**result.meta, "config": {**result.meta["config"], "epochs": 40}}
    path.write_bytes(lab_store._packed(result.arrays, meta))


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_hides_no_other(mini, damage):
    store, job = mini.store, mini.job(0)
    path = store.write(job, ARRAYS)
    store.write(mini.job(1), ARRAYS)
    damage(path, store, mini)
    content = path.read_bytes()
    assert store.state(job) is State.BROKEN
    with pytest.raises(ResultError, match="delete the file") as error:
        store.read(job)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert store.read(mini.job(1)).meta["seed"] == 1
    states = {record.path.name[:2]: record.state for record in store.records()}
    assert states["s0"] is State.BROKEN and states["s1"] is State.FRESH
    assert next(record.reason for record in store.records() if record.state is State.BROKEN)
    assert path.read_bytes() == content


def test_a_result_is_checked_again_when_it_was_touched(mini, monkeypatch):
    monkeypatch.setattr(lab_code, "SETTLED_NS", 0)
    path = mini.store.write(mini.job(), ARRAYS)
    time.sleep(0.05)
    loads, load_result = [], lab_store.load
    monkeypatch.setattr(lab_store, "load", lambda own: loads.append(own) or load_result(own))
    assert [mini.store.state(mini.job()) for _ in range(3)] == [State.FRESH] * 3 and len(loads) == 1
    path.write_bytes(b"x" * path.stat().st_size)  # in place: the same file, the same size
    assert mini.store.state(mini.job()) is State.BROKEN


def test_a_damaged_file_of_other_code_is_kept_and_is_no_result(mini):
    path = mini.store.write(mini.job(), ARRAYS)
    path.write_text("damaged")
    mini.edit()
    assert mini.store.state(mini.job()) is State.MISSING
    mini.store.write(mini.job(), ARRAYS)
    assert mini.store.state(mini.job()) is State.FRESH and path.read_text() == "damaged"


def test_records_lists_foreign_files_as_broken(mini):
    mini.store.write(mini.job(), ARRAYS)
    foreign = ["stray.npz", "mini/x.npz", "other/abc/s0-0123456789ab.npz", "mini/abc/notes.npz"]
    for name in foreign:
        path = mini.store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("foreign")
    states = {str(record.path.relative_to(mini.store.root)): record.state for record in mini.store.records()}
    assert [states.pop(name) for name in foreign] == [State.BROKEN] * 4
    assert list(states.values()) == [State.FRESH]


def test_records_of_an_absent_root(tmp_path):
    assert Store(tmp_path / "absent", {"mini": "mini.run:run"}).records() == []
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["file", "meta.json", "with space", "allow_pickle"])
def test_an_array_that_cannot_be_kept_is_refused(mini, name):
    with pytest.raises(LabError, match="cannot be recorded"):
        mini.store.write(mini.job(), {name: np.zeros(3)})
    with pytest.raises(LabError, match="cannot be recorded"):
        mini.store.write(mini.job(), {"x": np.array([{}], dtype=object)})
    assert mini.store.records() == []


def test_the_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NAS_RESULTS_ROOT", str(tmp_path))
    assert Store().root == tmp_path
    monkeypatch.delenv("NAS_RESULTS_ROOT")
    assert Store().root.name == "results" and (Store().root.parent / "nas_core").is_dir()


# --- writing ----------------------------------------------------------------------------------------------------------


def everything(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_store_as_it_was(mini, monkeypatch, number, call):
    mini.store.write(mini.job(), {"old": np.zeros(3)})
    before = everything(mini.store.root)

    def full(*arguments):
        raise OSError(getattr(errno, number), "full")

    monkeypatch.setattr(os, call, full)
    for seed in (0, 1):
        with pytest.raises(DiskFull, match="No room is left on the disk") as error:
            mini.store.write(mini.job(seed), ARRAYS)
        assert "\n" not in str(error.value)
    assert everything(mini.store.root) == before


def test_a_real_limit_on_file_size_leaves_the_store_as_it_was(mini):
    process = mini.script("""
        import resource, numpy as np
        from nas_core.lab.store import DiskFull
        store.write(job(), {"x": np.zeros(3)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            store.write(job(), {"x": np.random.default_rng(0).random(100_000)})
        except DiskFull as error:
            print("refused:", error)
        print(store.read(job()).arrays["x"])
    """)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "refused: No room is left" in out and "[0. 0. 0.]" in out
    assert not list(mini.store.root.rglob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permission there")
def test_a_root_that_cannot_be_made_is_one_sentence(mini, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "results", mini.store.experiments)
    with pytest.raises(LabError, match="cannot be written .*NAS_RESULTS_ROOT"):
        store.write(mini.job(), ARRAYS)
    with pytest.raises(LabError, match="cannot be written"):
        store.lock(mini.job())


def test_content_depends_on_nothing_but_the_result(mini, monkeypatch):
    monkeypatch.setattr(Store, "_provenance", lambda self, job: {"fixed": 1})
    first = mini.store.write(mini.job(), ARRAYS).read_bytes()
    assert mini.store.write(mini.job(), dict(reversed(ARRAYS.items()))).read_bytes() == first


def test_a_killed_write_shows_nothing_under_the_final_name(mini):
    """The process dies with the temporary file written and not yet renamed; the next write clears it."""
    process = mini.script("""
        import os, signal, numpy as np
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
        store.write(job(), {"x": np.zeros(3)})
    """)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert mini.store.records() == [] and mini.store.state(mini.job()) is State.MISSING
    assert len(list(mini.store.root.rglob(".*.tmp"))) == 1
    mini.store.write(mini.job(), ARRAYS)
    assert not list(mini.store.root.rglob(".*.tmp")) and mini.store.state(mini.job()) is State.FRESH


def test_reading_works_where_nothing_may_be_written(mini):
    mini.store.write(mini.job(), ARRAYS)
    before = {path: path.stat().st_mtime_ns for path in mini.store.root.rglob("*")}
    mini.store.read(mini.job())
    mini.store.records()
    mini.store.seeds("mini", mini.job().config)
    assert {path: path.stat().st_mtime_ns for path in mini.store.root.rglob("*")} == before


# --- attested code ----------------------------------------------------------------------------------------------------


def test_attested_code_counts_as_todays_over_several_steps(mini):
    old = mini.store.code("mini")
    mini.store.write(mini.job(), ARRAYS)
    mini.edit()
    mini.store.attest("mini", old, "looked at")
    middle = mini.store.code("mini")
    mini.edit("STEP = 2.0", "STEP = 3.0")
    assert mini.store.state(mini.job()) is State.STALE
    mini.store.attest("mini", middle, "looked at again")
    assert mini.store.state(mini.job()) is State.FRESH
    assert mini.store.read(mini.job()).meta["attested"]["evidence"] == "looked at"
    assert [record.state for record in mini.store.records()] == [State.FRESH]
    mini.edit("STEP = 3.0", "STEP = 4.0")
    assert mini.store.state(mini.job()) is State.STALE


def test_a_damaged_attestation_is_named(mini):
    mini.store.root.mkdir()
    (mini.store.root / "attestations.jsonl").write_text("{\n")
    with pytest.raises(ResultError, match="attestations.jsonl is damaged"):
        mini.store.state(mini.job())


# --- a light import ---------------------------------------------------------------------------------------------------


def test_reading_the_store_does_not_load_torch():
    code = "import sys; from nas_core.lab.store import Store; Store().records(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
