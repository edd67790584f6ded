"""Names and paths that come from a request, checked before anything uses them."""

from collections.abc import Sequence
from pathlib import Path

from app.errors import FieldProblem, Unprocessable
from app.local_paths import find_allowed, not_allowed

MAX_FILENAME_BYTES = 255


def check_filename(filename: str | None, *, pointer: str = "/file") -> str:
    """A plain file name: the client's label of an upload, later the name under which it is read or saved.

    Raises:
        Unprocessable: empty, too long, or anything that could be read as a path.
    """
    if not filename:
        raise _refused(pointer, "filename_missing", "give a file name; its extension tells the format")
    if filename in (".", "..") or any(
        char in "/\\" or ord(char) < 32 or ord(char) == 127 for char in filename
    ):
        raise _refused(
            pointer,
            "filename_invalid",
            f"{filename!r} is not a plain file name: no folders, no control characters",
        )
    if len(filename.encode(errors="replace")) > MAX_FILENAME_BYTES:
        raise _refused(
            pointer, "filename_invalid", f"the file name is longer than {MAX_FILENAME_BYTES} bytes"
        )
    return filename


def check_model_folder(path: str, *, allowed_roots: Sequence[Path], pointer: str) -> str:
    """The real path of a checkpoint folder on the service's machines.

    Raises:
        Unprocessable: outside every allowed root, or no folder with a config.json.
    """
    found = find_allowed(path, allowed_roots)
    if found is None:
        problem = not_allowed(path, pointer=pointer)
        raise Unprocessable(problem.detail, code=problem.code, errors=[problem])
    if found.is_here and not (found.real / "config.json").is_file():
        raise _refused(
            pointer, "model_not_found", f"{path!r} is no checkpoint: there is no config.json in it"
        )
    return str(found.real)


def _refused(pointer: str, code: str, detail: str) -> Unprocessable:
    return Unprocessable(detail, code=code, errors=[FieldProblem(pointer=pointer, code=code, detail=detail)])
