"""An upload to S3 dies in the middle: nothing is there, or all of it, and the next try mends it."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.opening import open_store
from app.storage.store import blob_key

PROGRAM = """
import sys
from pathlib import Path
from app.storage.opening import open_store

url, key, path, sha256 = sys.argv[1:]
open_store(url).put_file(key, Path(path), sha256=sha256)
"""
LARGE, SMALL = 20_000_000, 1000


@pytest.mark.parametrize(
    ("place", "num_bytes", "is_there"),
    [
        ("object.piece_sent", LARGE, False),
        ("object.piece_sent after 1", LARGE, False),
        ("object.put", LARGE, True),
        ("object.put", SMALL, True),
    ],
)
def test_an_upload_dies(s3_url: str, tmp_path: Path, place: str, num_bytes: int, is_there: bool) -> None:
    name, _, passes = place.partition(" after ")
    (tmp_path / name).write_text("kill" + (f" after {passes}" if passes else ""))
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(num_bytes))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    key = blob_key(project_id="proj-1", sha256=sha256)
    command = [sys.executable, "-c", PROGRAM, s3_url, key, str(path), sha256]

    died = subprocess.run(command, env={**os.environ, "FAILPOINTS_DIR": str(tmp_path)}, check=False)

    store = open_store(s3_url)
    assert died.returncode == -signal.SIGKILL
    assert store.size(key) == (num_bytes if is_there else None)
    subprocess.run(command, check=True)
    assert store.size(key) == num_bytes
    store.get_file(key, tmp_path / "back", sha256=sha256)
