"""A folder per attempt, removed when the attempt ends.

It is locked as long as it is used: what a dead worker leaves behind is known by its lock, which nobody holds
any more, and is swept away (`app.operations.workspaces`).
"""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.operations.workspaces import REQUEST_NAME, nobody_sweeping, occupied, remember_child, remove
from fusion.failpoints import failpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Where one attempt works. Nothing in it is shared with another attempt."""

    root: Path

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def out(self) -> Path:
        """Output folder of the stage."""
        return self.root / "out"

    @property
    def request(self) -> Path:
        return self.root / REQUEST_NAME

    @property
    def log_folder(self) -> Path:
        return self.root / "log"

    @property
    def log(self) -> Path:
        return self.log_folder / "log.txt"

    def remember_child(self, pid: int) -> None:
        """Note the child, so that whoever sweeps this folder can find it."""
        remember_child(self.root, pid)


@contextmanager
def reserve(workspaces: Path, *, step_id: str, attempt: int) -> Iterator[Workspace]:
    """An empty, locked folder for one attempt."""
    root = workspaces / step_id / str(attempt)
    with ExitStack() as held:
        with nobody_sweeping(workspaces):
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            is_ours = held.enter_context(occupied(root))
        assert is_ours, f"attempt {attempt} of {step_id} is being worked on twice"
        workspace = Workspace(root=root)
        try:
            failpoint("workspace.reserved")
            for folder in (workspace.inputs, workspace.out, workspace.log_folder):
                folder.mkdir()
            yield workspace
        finally:
            remove(root)
