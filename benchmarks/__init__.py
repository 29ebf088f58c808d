"""How fast the engine is and how much memory it takes, against a plain implementation: ``python -m benchmarks``."""
