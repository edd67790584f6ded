"""Paths that a user named and that cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager

from fusion.errors import UserError


@contextmanager
def explained_path_errors(*, code: str, hint: str) -> Iterator[None]:
    """Blame the path when the file system refuses one.

    Raises:
        UserError: names the path that could not be opened or made, and the reason.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:  # not about a path: a full disk, a closed pipe
            raise
        raise UserError(f"{error.filename}: {error.strerror}", code=code, hint=hint) from error
