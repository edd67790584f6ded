"""A private S3: moto's server in a process of its own, which knows conditional writes and uploads in parts.

Fixtures: `s3_server` (address of the session's server), `s3_url` (storage URL of a fresh bucket of one test,
with the environment set up for it).
"""

import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.server_folders import server_folder
from tests.support.services import spawn, started, stop, wait_until

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 that this session may write to freely."""
    with private_s3() as address:
        yield address


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://bucket/prefix` of an empty bucket; this process and its children reach it."""
    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_client(s3_server).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/fusion"


def s3_environment(address: str) -> dict[str, str]:
    """How a process finds the server."""
    return {**_KEYS, "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}


def s3_client(address: str) -> Any:
    """Another library's view of the server."""
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name=_KEYS["AWS_REGION"],
        aws_access_key_id=_KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=_KEYS["AWS_SECRET_ACCESS_KEY"],
    )


@contextmanager
def private_s3() -> Iterator[str]:
    """Start a server on a free loopback port, everything in its memory; it dies with this process."""
    with (
        server_folder("s3") as folder,
        started(lambda port: _start(folder, port=port)) as (process, port),
    ):
        yield f"http://127.0.0.1:{port}"
        stop(process, signal.SIGTERM)


def _start(folder: Path, *, port: int) -> subprocess.Popen[bytes]:
    command: list[object] = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    process = spawn(command, folder / "log", death_signal=signal.SIGTERM, user=None)

    def answers() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5) as answer:
            return bool(answer.status == 200)

    wait_until(answers, process=process, log=folder / "log", not_yet=OSError)
    return process
