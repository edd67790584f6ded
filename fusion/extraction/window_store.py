"""The capture cache as `extract` uses it: where it fails, the stage goes on without it.

A window that an earlier shard of the job holds counts as stored from the moment it was captured, whether
its pack has been written or not: a job that is interrupted and goes on finds the same windows as one that
is not.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fusion.errors import InfrastructureError
from fusion.io.capture_cache import CaptureCache
from fusion.io.captures import Capture, read_capture, shard_folder, window_of
from fusion.io.manifest import verify_manifest
from fusion.progress import Progress

Facts = Mapping[str, object]


class WindowStore:
    """Captured windows that need no forward pass. `root` is the cache, None where there is none."""

    def __init__(self, root: Path | None, *, space: str, facts: Facts, progress: Progress) -> None:
        self._progress = progress
        self._cache = (
            None
            if root is None
            else CaptureCache(root, space=space, facts=facts, on_damage=self._note_damage)
        )
        self._is_writable = True
        self._being_written: Mapping[bytes, Capture] = {}

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Capture]:
        """What is stored of these windows."""
        if self._cache is None:
            return {}
        found: dict[bytes, Capture] = {}
        for key in dict.fromkeys(keys):
            capture = self._being_written.get(key)
            if capture is None:
                capture = self._cache.get(key)
            if capture is not None:
                found[key] = capture
        return found

    def announce(self, captures: Mapping[bytes, Capture]) -> None:
        """These windows count as stored; `write` follows, and the one before has ended."""
        if self._cache is not None and self._is_writable:
            self._being_written = captures

    def write(self, captures: Mapping[bytes, Capture]) -> None:
        """Store windows that were captured. The first failure ends the attempts: a full disk stays full."""
        if self._cache is None or not self._is_writable:
            return
        try:
            self._cache.put(captures)
        except OSError as error:
            self._is_writable = False
            self._progress.note(f"the capture cache cannot be written, the stage goes on without: {error}")

    def adopt_shard(self, out_dir: Path, shard: int, *, keys: Sequence[bytes]) -> None:
        """Store the windows of a shard that an earlier attempt finished, perhaps on another machine."""
        if self._cache is None or all(key in self._cache for key in keys):
            return
        folder = shard_folder(out_dir, shard)
        try:
            verify_manifest(folder)
        except InfrastructureError as error:
            self._note_damage(error.message)
            return
        capture = read_capture(folder)
        self.write({key: window_of(capture, window) for window, key in enumerate(keys)})

    def _note_damage(self, message: str) -> None:
        self._progress.note(f"damage in the capture cache, captured again: {message}")
