"""Captured windows by what they are a function of, so that no model runs twice over the same text.

A window's key is a digest of the *space* (all but the text that a capture depends on), its text and whether
it ends its document. A pack holds windows one after the other, each a safetensors file of its own, with a
digest over key and bytes: what is read is right or it is not there. A flipped byte costs the window, not
the result.

Letters: `W` windows of a pack or of all packs.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fusion.errors import InfrastructureError
from fusion.io.capture_packs import folders_of_space, mark_used, read_pack, write_pack
from fusion.io.captures import Capture
from fusion.io.manifest import MANIFEST_NAME, Manifest
from fusion.io.tensors import Array
from fusion.io.windows import Window

CACHE_VERSION = 1
"""Raise it when a capture of the same text comes to mean something else: older packs are then never found."""

_KEYS_NAME, _WINDOWS_NAME = "keys.safetensors", "windows.bin"
_KEY_BYTES = 32
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, SafetensorError, InfrastructureError)


@dataclass(frozen=True, slots=True)
class _OpenPack:
    """keys, digests: uint8 [W, 32]. offsets: int64 [W + 1] into the file of windows."""

    folder: Path
    keys: Array
    digests: Array
    offsets: Array


class CaptureCache:
    """The packs of one space. Thread-safe; any number of processes may each have one on the same folder.

    Args:
        root: the cache; made on the first write.
        space: digest of everything but the text that these captures are a function of.
        facts: the same for people, kept in every pack.
        on_damage: told of what could not be read; it is treated as missing.
    """

    def __init__(
        self, root: Path, *, space: str, facts: Mapping[str, Any], on_damage: Callable[[str], None]
    ) -> None:
        self._folder = root / space
        self._facts = dict(facts)
        self._on_damage = on_damage
        self._packs: list[_OpenPack] = []
        self._used: set[int] = set()
        # The last pack added is the first asked, so that a window captured again hides its damaged copy.
        self._places: dict[bytes, tuple[tuple[int, int], ...]] = {}
        self._lock = threading.Lock()
        for folder in sorted(folders_of_space(self._folder), key=_last_used):
            self._open(folder)

    def __contains__(self, key: bytes) -> bool:
        """Whether a pack lists the window; its bytes may still turn out to be damaged."""
        with self._lock:
            return key in self._places

    def get(self, key: bytes) -> Capture | None:
        """The capture of one window, proven against its digest; None where no pack holds it whole."""
        with self._lock:
            places = self._places.get(key, ())[::-1]
        for pack_number, number in places:
            pack = self._packs[pack_number]
            try:
                capture = _read_window(pack, number, key=key)
            except FileNotFoundError:
                continue  # pruned since
            except _UNREADABLE as error:
                self._on_damage(f"{pack.folder / _WINDOWS_NAME}: {error}")
                continue
            if pack_number not in self._used:
                self._used.add(pack_number)
                mark_used(pack.folder)
            return capture
        return None

    def put(self, captures: Mapping[bytes, Capture]) -> None:
        """Store captures of one window each, as one pack.

        Raises:
            OSError: they could not be stored.
        """
        if not captures:
            return
        files = _pack_files(captures)
        facts = {
            **self._facts,
            "num_windows": len(captures),
            "num_rows": sum(capture.num_rows for capture in captures.values()),
        }
        self._open(write_pack(self._folder, files, facts=facts))

    def _open(self, folder: Path) -> None:
        """Learn what a pack holds. One that was pruned meanwhile or is damaged holds nothing."""
        try:
            pack = _open_pack(folder)
        except FileNotFoundError:
            return
        except _UNREADABLE as error:
            self._on_damage(f"{folder}: {error}")
            return
        with self._lock:
            pack_number = len(self._packs)
            self._packs.append(pack)
            for number, key in enumerate(pack.keys):
                self._places[key.tobytes()] = (*self._places.get(key.tobytes(), ()), (pack_number, number))


def space_digest(**parts: Any) -> str:
    """Digest of all but the text that a capture is a function of; `parts` are JSON values."""
    return hashlib.sha256(json.dumps([CACHE_VERSION, parts], sort_keys=True).encode()).hexdigest()


def window_key(space: str, window: Window) -> bytes:
    """32 bytes; of the space, the text, and whether an end follows it."""
    mark = b"\x01" if window.ends_document else b"\x00"
    return hashlib.sha256(bytes.fromhex(space) + mark + window.text.encode()).digest()


def _last_used(folder: Path) -> float:
    try:
        return (folder / MANIFEST_NAME).stat().st_mtime
    except OSError:
        return 0.0


def _pack_files(captures: Mapping[bytes, Capture]) -> dict[str, bytes]:
    blobs = [_to_bytes(capture) for capture in captures.values()]
    digests = [_digest(key, blob) for key, blob in zip(captures, blobs, strict=True)]
    arrays = {
        "keys": _as_rows(list(captures)),
        "digests": _as_rows(digests),
        "offsets": np.cumsum([0, *map(len, blobs)], dtype=np.int64),
    }
    return {_KEYS_NAME: save(arrays), _WINDOWS_NAME: b"".join(blobs)}


def _to_bytes(capture: Capture) -> bytes:
    arrays = {name: np.ascontiguousarray(getattr(capture, name)) for name in sorted(Capture.__slots__)}
    return save(arrays)


def _as_rows(values: Sequence[bytes]) -> Array:
    return np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(values), _KEY_BYTES)


def _digest(key: bytes, blob: bytes) -> bytes:
    return hashlib.sha256(key + blob).digest()


def _open_pack(folder: Path) -> _OpenPack:
    manifest: Manifest = read_pack(folder).manifest
    data = (folder / _KEYS_NAME).read_bytes()
    expected = next(file.sha256 for file in manifest.files if file.path == _KEYS_NAME)
    if hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{_KEYS_NAME} does not have the digest it was written with")
    arrays = load(data)
    return _OpenPack(folder, keys=arrays["keys"], digests=arrays["digests"], offsets=arrays["offsets"])


def _read_window(pack: _OpenPack, number: int, *, key: bytes) -> Capture:
    start, end = (int(offset) for offset in pack.offsets[number : number + 2])
    with (pack.folder / _WINDOWS_NAME).open("rb") as file:
        file.seek(start)
        blob = file.read(end - start)
    if _digest(key, blob) != pack.digests[number].tobytes():
        raise ValueError(f"the window at byte {start} does not have the digest it was written with")
    return Capture(**load(blob))
