"""The page on the engine: its differences are roundings, its benchmark is the recorded table or a sentence."""

import json
import re

from nas_core.pages import engine


def test_engine_and_modules_differ_by_roundings_only():
    lines = engine.differences()
    assert [line[0] for line in lines] == ["darts", "snas", "dsnas", "proxylessnas"]
    assert all(float(value.replace("−", "-")) < 1e-12 for line in lines for value in line[1:])


def test_the_benchmark_is_what_stands_between_the_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "RECORDED", tmp_path / "README.md")
    assert "python -m benchmarks" in engine.benchmark()
    engine.RECORDED.write_text(f"before\n{engine.START}\n| a |\n{engine.END}\nafter")
    assert engine.benchmark() == "| a |"


def test_goals_are_held_against_the_published_side_and_else_the_plain_one(tmp_path, monkeypatch):
    def side(seconds, peak, own=(1.0, 1.0)):
        return {"engine": {"seconds": own, "peak": 10}, "other": {"seconds": seconds, "peak": peak}}

    rows = {
        "a": {"workload": {"kind": "theta"}, "sides": {"plain": side([99.0], 99), "published": side([9.9, 9.9], 31)}},
        "b": {"workload": {"kind": "darts"}, "sides": {"plain": side([4.1, 4.1], 20)}},
        "c": {"workload": {"kind": "snas"}, "sides": {"published": {"engine": {"seconds": [1.0]}, "other": {}}}},
    }
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    assert engine.goals() == []
    engine.NUMBERS.write_text(json.dumps({"workloads": rows}))
    assert [line[3:] for line in engine.goals()] == [
        ["9.9×, no", "3.1×, yes"],
        ["4.1×, yes", "2.0×, no"],
        ["the other side does not fit", "–"],
    ]
    assert engine.missed() == (
        "Of 2 goals of time 1 is missed: `a` (9.9× instead of 10×). Of 2 goals of memory 1 is missed: `b` (2.0×)."
    )


def test_a_goal_that_is_barely_missed_does_not_look_reached(tmp_path, monkeypatch):
    side = {"engine": {"seconds": [1.0], "peak": 1}, "other": {"seconds": [3.996], "peak": 3}}
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    engine.NUMBERS.write_text(
        json.dumps({"workloads": {"a": {"workload": {"kind": "darts"}, "sides": {"plain": side}}}})
    )
    assert engine.goals()[0][3] == "3.996×, no" and "`a` (3.996× instead of 4×)" in engine.missed()


def test_kernels_are_told_with_what_the_engine_would_ask_for(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    assert "are not counted" in engine.kernels()
    rows = {
        "a": {"kernels": {"engine": 100.0, "engine on a CPU": 250.0}},
        "b": {"kernels": {"engine": 40, "engine on a CPU": 160}},
    }
    engine.NUMBERS.write_text(json.dumps({"launches": rows}))
    assert (
        "asks for 40 to 100 kernels" in engine.kernels()
        and "would ask for 2.5 to 4.0 times as many" in engine.kernels()
    )


def test_a_ratio_is_the_median_over_pairs(tmp_path, monkeypatch):
    """The ratio of the medians would be 3 / 2."""
    side = {"engine": {"seconds": [1.0, 2.0, 3.0], "peak": 1}, "other": {"seconds": [3.0, 1.0, 12.0], "peak": 3}}
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    row = {"workload": {"kind": "darts"}, "sides": {"plain": side}}
    engine.NUMBERS.write_text(json.dumps({"workloads": {"a": row}}))
    assert engine.goals() == [["`a`", "plain", "4×", "3.0×, no", "3.0×, yes"]]


def test_a_table_of_costs_is_held_against_the_goal_by_its_lower_bound(tmp_path, monkeypatch):
    def recorded(*gains):
        ways = {"published": {"price": [float(gain) for gain in gains]}, "conditioned": {"price": [1.0] * len(gains)}}
        engine.NUMBERS.write_text(json.dumps({"workloads": {}, "table": {"states": {"initial": ways}}}))
        return engine.goals()

    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    ((*_, held, memory),) = recorded(30, 31, 29, 30, 30)
    assert re.fullmatch(r"30\.0× \[29\.\d, 3\d\.\d\], yes", held) and held.endswith(", yes") and memory == "–"
    ((*_, held, _),) = recorded(5, 40, 10, 90, 3)
    assert held.endswith(", no")


def test_a_network_that_was_not_published_has_no_goal(tmp_path, monkeypatch):
    side = {"engine": {"seconds": [1.0], "peak": 1}, "other": {"seconds": [2.0], "peak": 2}}
    row = {"workload": {"kind": "bilevel", "reduction": True}, "sides": {"plain": side}}
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    engine.NUMBERS.write_text(json.dumps({"workloads": {"a": row}}))
    assert engine.goals() == [["`a`", "plain", "none", "2.0×", "2.0×"]]
