"""Files and folders that appear complete or not at all, also after a power cut.

Write beside the final name, fsync, rename, fsync the folder: rename alone is atomic but not durable.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion.failpoints import failpoint

PARTIAL_SUFFIX = ".partial"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    failpoint("file.written")
    partial.replace(path)
    failpoint("file.renamed")
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON of `value`, keys sorted, so equal values give equal bytes."""
    write_bytes(path, (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name `path` when the block ends without an error.

    An earlier folder of that name is replaced. After an error nothing of the new one is left.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for entry in (*partial.rglob("*"), partial):
        sync_file(entry)
    failpoint("folder.written")
    shutil.rmtree(path, ignore_errors=True)
    failpoint("folder.replaced")
    partial.rename(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force a folder's entries to the disk."""
    sync_file(path)
