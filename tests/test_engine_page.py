"""The page on the engine: its differences are roundings, its benchmark is the recorded table or a sentence."""

from nas_core.pages import engine


def test_engine_and_modules_differ_by_roundings_only():
    lines = engine.differences()
    assert [line[0] for line in lines] == ["darts", "snas", "dsnas", "proxylessnas"]
    assert all(float(value) < 1e-12 for line in lines for value in line[1:])


def test_the_benchmark_is_what_stands_between_the_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "RECORDED", tmp_path / "README.md")
    assert "python -m benchmarks" in engine.benchmark()
    engine.RECORDED.write_text(f"before\n{engine.START}\n| a |\n{engine.END}\nafter")
    assert engine.benchmark() == "| a |"
