"""Stored folders with digests: what steps produce, and how users download it."""
