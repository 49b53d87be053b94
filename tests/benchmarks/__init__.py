"""Timings, measured side by side in one run and never asserted; ``make bench`` writes reports/benchmarks.md.

The files are named ``bench_*.py``, so that a plain ``pytest`` leaves them alone.
"""
