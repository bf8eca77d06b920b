"""Contestants of benchmarks/speed.py, which take turns on the same work."""
