"""Array files without pickle: safetensors, written atomically."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from fusion.io.atomic import write_bytes

Array = np.ndarray[Any, Any]


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write named arrays; equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}))


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all arrays of a file."""
    arrays: dict[str, Array] = load_file(path)
    return arrays


def smallest_id_dtype(vocabulary_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest integer type that holds every id below `vocabulary_size`."""
    return np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
