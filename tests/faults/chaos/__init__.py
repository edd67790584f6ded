"""Faults at random from a seed, for as long as one likes: `make chaos`."""
