"""The status page: one row a configuration and state, with its seeds, and a sentence that counts."""

from pathlib import Path

from nas_core.lab.recipes import RECIPES
from nas_core.lab.store import Record, State, describe
from nas_core.pages import status


def record(seed, state=State.FRESH, recipe="reference_a", ident="aaa", **more):
    meta = {"recipe": recipe, "scale": "tiny", "ident": ident, "seed": seed, "seconds": 60.0 * (seed + 1)}
    meta |= {"dataset": {"name": "digits"}, "created": "2026-01-02T03:04:05", "attested": None} | more
    return Record(Path(f"s{seed}.npz"), state, meta=meta)


def test_rows_hold_one_configuration_in_one_state():
    records = [
        record(1, recipe="reference_b", ident="bbb", attested="repeated"),
        record(0),
        record(2),
        record(1),
        record(3, State.STALE),
        Record(Path("broken.npz"), State.BROKEN, "damaged"),
    ]
    lines = status.table(records).splitlines()[2:]
    name = '<code class="docutils literal notranslate">reference_<wbr>%s</code>'
    assert lines[0] == f"| {name % 'a'} | tiny | digits | 0-2 | FRESH | 2.00 | 2026‑01‑02 | `aaa` |"
    assert lines[1] == f"| {name % 'a'} | tiny | digits | 3 | STALE | 4.00 | 2026‑01‑02 | `aaa` |"
    assert lines[2].startswith(f"| {name % 'b'} |") and "FRESH (attested)" in lines[2] and len(lines) == 3
    assert status.summary(records).startswith(
        "6 recorded results: 4 FRESH, 1 STALE, 1 BROKEN. Together they took 0.20 hours"
    )


def test_settings_of_ones_own_are_words_and_no_code():
    assert status.table([record(0, recipe=None)]).splitlines()[2].startswith("| own settings | tiny |")


def test_an_empty_store_is_said():
    assert status.summary([]).startswith("0 recorded results: none.")


def test_a_configuration_of_its_own_says_what_it_sets_apart_from_the_recipe():
    config = describe(RECIPES["reference_darts_bilevel"]("tiny"))["config"]
    own = config | {"data": config["data"] | {"images": 200, "sha256": "0" * 64}, "epochs": 52}
    records = [record(0, recipe="reference_darts_bilevel", config=given) for given in (config, own)]
    assert status.apart(records[0].meta) == "" and status.apart(records[1].meta) == "images 200, epochs 52"
    assert status.table(records[1:]).splitlines()[2].endswith("| `aaa`: images 200, epochs 52 |")
