"""The page on the engine: its differences are roundings, its benchmark is the recorded table or a sentence."""

import json
import re

from nas_core.pages import engine
from tests.test_estimator_pages import many


def test_engine_and_modules_differ_by_roundings_only():
    lines = engine.differences()
    assert [line[0] for line in lines] == ["darts", "snas", "dsnas", "proxylessnas"]
    assert all(float(value) < 1e-12 for line in lines for value in line[1:])


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


def test_a_table_of_costs_at_equal_error_multiplies_steps_and_estimator(tmp_path, monkeypatch):
    sides = {"published": {"engine": {"seconds": [1.0]}, "other": {"seconds": [5.0]}}}
    monkeypatch.setattr(engine, "NUMBERS", tmp_path / "results.json")
    assert "not recorded" in engine.statistics_at_equal_error(many())
    engine.NUMBERS.write_text(json.dumps({"workloads": {"statistics-minimal": {"sides": sides}}}))
    assert "not recorded" in engine.statistics_at_equal_error([])
    fast, slow = (engine.statistics_at_equal_error(many(40, gain=gain)) for gain in (8.0, 1.0))
    assert "n = 40" in fast and "5.00" in fast and "is reached for the table" in fast
    assert "is not shown to be reached for the table" in slow
    total = float(re.search(r"that makes ([\d.]+) \[", fast)[1])
    assert 30 < total < 55, total
