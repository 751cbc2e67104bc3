"""Measurements side by side with the alternatives; ``python -m benchmarks.run`` does them all."""
