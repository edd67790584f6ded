"""`python -m benchmarks`: what the engine costs, as ratios of one run."""
