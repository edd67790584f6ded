"""Alignment: captures of all sources become lessons on the target's tokens and vocabulary."""
