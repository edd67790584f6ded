"""Which local paths a request may name: one rule for specs, registered models and workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import FieldProblem

_LENGTH_SHOWN: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedPath:
    """A path under an allowed root, symbolic links followed: one inside a root must not lead out of it."""

    real: Path
    root: Path

    @property
    def is_here(self) -> bool:
        """Whether this machine has the root; one that it lacks may still be there for the workers."""
        return self.root.is_dir()


def find_allowed(text: str, allowed_roots: Sequence[Path]) -> AllowedPath | None:
    """Where an absolute path leads; None outside every root, or for text that no file system would take."""
    try:
        real = Path(text).resolve()
        real.exists()
    except (OSError, RuntimeError, ValueError):
        return None
    root = next((root for root in allowed_roots if real.is_relative_to(root)), None)
    return None if root is None or not Path(text).is_absolute() else AllowedPath(real=real, root=root)


def not_allowed(text: str, *, pointer: str) -> FieldProblem:
    """The refusal; whether a path outside the roots exists is not told."""
    shown = repr(text if len(text) <= _LENGTH_SHOWN else f"{text[:_LENGTH_SHOWN]}...")
    if "://" in text:
        detail = f"{shown} is an address; a path is that of a folder or file on the service's machines"
    else:
        detail = (
            f"{shown} is not an absolute path under an allowed root; the operator allows folders "
            "with the setting allowed_roots (FUSION_ALLOWED_ROOTS)"
        )
    return FieldProblem(pointer=pointer, code="path_not_allowed", detail=detail)
