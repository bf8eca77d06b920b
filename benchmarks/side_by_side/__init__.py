"""The parts of benchmarks/speed.py: what is timed, against whom, and what the machine could do at best."""
