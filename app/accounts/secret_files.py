"""Secrets kept in files that only their owner can read."""

import os
import secrets
from pathlib import Path

from fusion.errors import InfrastructureError

_MIN_SECRET_BYTES = 32
_OWNER_ONLY = 0o600


def write_secret(path: Path, text: str) -> None:
    """Put `text` at `path`, complete and never readable by others, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_pepper(path: Path, *, given: str | None = None) -> bytes:
    """The key of the key hashes: `given` by the operator, or from `path`, where it is made on first use.

    Raises:
        InfrastructureError: it is too short to be a secret. Making another one would void every key.
    """
    return load_secret(path, given=given, variable="FUSION_KEY_PEPPER").encode()


def load_secret(path: Path, *, given: str | None, variable: str) -> str:
    """Secrets, one a line: `given` by the operator in `variable`, or from `path`, where one is made at first.

    Two processes that start at once agree on one: the first link wins and both read it back.

    Raises:
        InfrastructureError: one is too short to be a secret. Another would void what depends on it.
    """
    if given is None and not path.exists():
        _create_secret(path)
    text = (path.read_text() if given is None else given).strip()
    shortest = min(len(line.strip().encode()) for line in text.splitlines() or [""])
    if shortest < _MIN_SECRET_BYTES:
        origin = str(path) if given is None else variable
        raise InfrastructureError(
            f"{origin} holds {shortest} bytes, expected at least {_MIN_SECRET_BYTES}",
            code="secret_too_short",
            hint="make one with `openssl rand -hex 32`, or restore the file: what it made depends on it",
        )
    return text


def _create_secret(path: Path) -> None:
    candidate = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    write_secret(candidate, secrets.token_hex(_MIN_SECRET_BYTES) + "\n")
    try:
        os.link(candidate, path)
    except FileExistsError:
        return
    finally:
        candidate.unlink()
