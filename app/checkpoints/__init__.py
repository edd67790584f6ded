"""Checkpoints of a training: what is there of them, and the model that one of them holds."""
