"""Faults on purpose: processes killed at named places and at random, servers frozen, connections cut.

`tests/faults/chaos` runs for minutes or hours (`make chaos`); the tests beside it always run.
"""
