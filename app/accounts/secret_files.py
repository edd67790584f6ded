"""Secrets kept in files that only their owner can read."""

import os
import secrets
from pathlib import Path

from fusion.errors import InfrastructureError

_MIN_PEPPER_BYTES = 32
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

    Two processes that start at once agree on one pepper: the first link wins and both read it back.

    Raises:
        InfrastructureError: it is too short to be a secret. Making another one would void every key.
    """
    if given is None and not path.exists():
        _create_pepper(path)
    pepper = (path.read_text() if given is None else given).strip().encode()
    if len(pepper) < _MIN_PEPPER_BYTES:
        origin = str(path) if given is None else "FUSION_KEY_PEPPER"
        raise InfrastructureError(
            f"{origin} holds {len(pepper)} bytes, expected at least {_MIN_PEPPER_BYTES}",
            code="pepper_too_short",
            hint="make one with `openssl rand -hex 32`, or restore the file: keys made with it depend on it",
        )
    return pepper


def _create_pepper(path: Path) -> None:
    candidate = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    write_secret(candidate, secrets.token_hex(_MIN_PEPPER_BYTES) + "\n")
    try:
        os.link(candidate, path)
    except FileExistsError:
        return
    finally:
        candidate.unlink()
