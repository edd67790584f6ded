"""Foreign values made fit for a JSON column."""

import math
from typing import Any


def storable(value: Any) -> Any:
    """The same JSON value without what PostgreSQL refuses: NUL, lone surrogates, numbers that are not finite.

    A child process may report any of them, and a report must not fail on its decoration.
    """
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    return storable(str(value))
