"""What clients do to an upload that a test client cannot: lie about sizes, drip, and hang up."""

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.api_process import ApiProcess, running_api

MAX_UPLOAD_BYTES = 64 << 20
MEMORY_FOR_ANY_UPLOAD = 48 << 20
NUM_SLOW = 150
PIECE = b'{"text": "%s"}\n' % (b"a" * 8178)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    limit = {"FUSION_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
    with running_api(tmp_path_factory.mktemp("api"), environment=limit) as api:
        yield api


def send(api: ApiProcess, headers: dict[str, str], *pieces: bytes, then_close: bool = False) -> bytes:
    """The answer to a request written by hand; empty when the connection ended without one."""
    lines = ["POST /v1/files?filename=a.jsonl HTTP/1.1", f"Host: 127.0.0.1:{api.port}"]
    lines += [f"{name}: {value}" for name, value in {**api.headers, **headers, "Connection": "close"}.items()]
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        # Whoever refuses may close while we still send; what it said before counts.
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while received := connection.recv(65536):
                answer += received
        return answer


def files_with(api: ApiProcess, sha256: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx2.get(
        f"{api.url}/v1/files", params={"sha256": sha256}, headers=api.headers
    ).json()["data"]
    return found


def leftovers(api: ApiProcess) -> list[Path]:
    deadline = time.monotonic() + 10
    folder = api.settings.uploads_dir
    while (found := list(folder.glob("*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_file_as_large_as_allowed_costs_no_memory(api: ApiProcess) -> None:
    num_pieces = MAX_UPLOAD_BYTES // len(PIECE)
    before = api.memory_bytes()
    highest = before

    def pieces() -> Iterator[bytes]:
        nonlocal highest
        for number in range(num_pieces):
            if number % 64 == 0:
                highest = max(highest, api.memory_bytes())
            yield PIECE

    answer = httpx2.post(
        f"{api.url}/v1/files?filename=a.jsonl", content=pieces(), headers=api.headers, timeout=120
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == hashlib.sha256(PIECE * num_pieces).hexdigest()
    assert answer.json()["status"] == "uploaded"
    assert max(highest, api.memory_bytes()) - before < MEMORY_FOR_ANY_UPLOAD


def test_what_announces_too_much_is_refused_before_it_is_sent(api: ApiProcess) -> None:
    answer = send(api, {"Content-Length": str(1 << 40)})

    assert b" 413 " in answer.splitlines()[0]
    assert b"file_too_large" in answer


def test_what_announces_nothing_is_counted(api: ApiProcess) -> None:
    piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"

    answer = send(api, {"Transfer-Encoding": "chunked"}, *([piece] * 80))

    assert answer == b"" or b" 413 " in answer.splitlines()[0]
    assert leftovers(api) == []


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "+5", "0x10", "18446744073709551616"])
def test_lengths_that_are_none_are_refused(api: ApiProcess, length: str) -> None:
    answer = send(api, {"Content-Length": length}, b"hello")

    assert answer == b"" or answer.splitlines()[0].split()[1] in {b"400", b"413"}
    assert leftovers(api) == []


def test_less_than_announced_is_no_file(api: ApiProcess) -> None:
    before = httpx2.get(f"{api.url}/v1/files", headers=api.headers).json()["data"]

    send(api, {"Content-Length": "1000"}, b'{"text": "half"}', then_close=True)

    assert leftovers(api) == []
    assert httpx2.get(f"{api.url}/v1/files", headers=api.headers).json()["data"] == before
    assert "Traceback" not in api.log.read_text()


def test_more_than_announced_is_not_read_as_part_of_the_file(api: ApiProcess) -> None:
    line = b'{"text": "one"}\n'

    send(api, {"Content-Length": str(len(line))}, line, b'{"text": "two"}\n')

    # Not by the answer: what was sent too much may reset the connection before it is read.
    digest = hashlib.sha256(line).hexdigest()
    deadline = time.monotonic() + 30
    while not (found := files_with(api, digest)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [file["bytes"] for file in found] == [len(line)]


def test_many_who_send_slowly_hold_up_nobody(api: ApiProcess) -> None:
    """More of them than the service has threads and connections to its database."""
    before = api.memory_bytes()
    key = f"Host: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
    json = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    heads = [
        f"POST /v1/files?filename=a.jsonl HTTP/1.1\r\n{key}Content-Length: {len(PIECE)}\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Le",
        f"POST /v1/jobs HTTP/1.1\r\n{key}{json}",
    ]
    with ExitStack() as held:
        for number in range(NUM_SLOW):
            connection = socket.create_connection(("127.0.0.1", api.port), timeout=30)
            held.enter_context(connection)
            connection.sendall(heads[number % len(heads)].encode())
        started = time.monotonic()
        answer = httpx2.post(
            f"{api.url}/v1/files?filename=a.jsonl", content=PIECE, headers=api.headers, timeout=30
        )
        listed = httpx2.get(f"{api.url}/v1/jobs", headers=api.headers, timeout=30)

        assert (answer.status_code, listed.status_code) == (201, 200)
        assert time.monotonic() - started < 10
        assert api.memory_bytes() - before < MEMORY_FOR_ANY_UPLOAD
    assert leftovers(api) == []


def test_the_service_works_on_after_all_that(api: ApiProcess) -> None:
    answer = httpx2.post(
        f"{api.url}/v1/files?filename=a.jsonl", content=PIECE, headers=api.headers, timeout=30
    )

    assert answer.status_code == 201
