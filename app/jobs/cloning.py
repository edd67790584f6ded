"""A new spec from a stored one and what its user wants different. Pure."""

from typing import Any


def merged_spec(spec: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`spec` with `overrides` merged in (RFC 7386): objects field by field, lists as a whole, null removes.

    A stored strategy has its preset written out, so overrides that name a preset start the strategy anew.
    """
    strategy = overrides.get("strategy")
    starts_anew = isinstance(strategy, dict) and "preset" in strategy
    base = {name: value for name, value in spec.items() if not (starts_anew and name == "strategy")}
    return _merge(base, overrides)


def _merge(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged
