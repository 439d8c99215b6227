"""Benchmark of MAP fits beside other packages: ``python -m tests.benchmarks.map --help``."""
