"""Benchmarks and evaluations: `python -m bench NAME`. Not part of the installed package."""
