"""Logs over the API, and what of them is hidden."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.following.log_endpoints import in_pieces
from app.jobs import service
from app.jobs.attempt_logs import append_log
from app.jobs.log_text import clean, lines_of
from tests.app.jobs import builders as given


def write(engine: Engine, step: service.ClaimedStep, first_byte: int, text: str) -> None:
    fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
    assert in_transaction(engine, append_log, **fence, first_byte=first_byte, data=text.encode())


def test_logs_of_attempts_are_read_by_step_attempt_level_and_place(
    client: TestClient, engine: Engine
) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    first = given.claim(engine)
    write(engine, first, 0, "reading\nWARNING: odd row\n  at line 3\n")
    fence: dict[str, Any] = {"step_id": first.step_id, "attempt": first.attempt}
    in_transaction(engine, service.release_step, **fence, reason="drain")
    write(engine, given.claim(engine), 0, "reading again\n")
    url = f"/v1/jobs/{job_id}/logs"

    def lines(**params: Any) -> list[dict[str, Any]]:
        text = client.get(url, params={"format": "ndjson", **params}).text
        return [json.loads(line) for line in text.splitlines()]

    assert client.get(url).text == (
        "==> prepare, attempt 1 <==\nreading\nWARNING: odd row\n  at line 3\n\n"
        "==> prepare, attempt 2 <==\nreading again\n"
    )
    assert [line["text"] for line in lines(level="warning")] == ["WARNING: odd row", "  at line 3"]
    assert [line["text"] for line in lines(attempt=2, step="prepare")] == ["reading again"]
    assert [line["text"] for line in lines(tail=2)] == ["  at line 3", "reading again"]
    assert [line["text"] for line in lines(since=lines()[0]["seq"])] == ["reading again"]
    assert client.get(url, params={"step": "nope"}).status_code == 404
    assert client.get(url, params={"level": "loud"}).status_code == 422


def test_a_purge_takes_the_logs_along(client: TestClient, engine: Engine) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    step = given.claim(engine)
    write(engine, step, 0, "text\n")
    given.fail(engine, step, given.USER_ERROR)

    purged = client.delete(f"/v1/jobs/{job_id}", params={"purge": True}).json()

    assert purged["freed_bytes"] == 5
    with_all = client.get(f"/v1/jobs/{job_id}/logs")
    assert with_all.status_code == 404


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://fusion:hunter22@db/x", "postgresql://[secret]@db/x"),
        ("Authorization: Bearer abcdefgh.12345678", "Authorization: Bearer [secret]"),
        ("key fus_o9ypn7c2_9s_D22JbFbbB was sent", "key [secret] was sent"),
        ("HF_TOKEN=hf_abcdefghijklmnopqrst", "HF_TOKEN=[secret]"),
        ("AKIAABCDEFGHIJKLMNOP", "[secret]"),
        ("GET /b?X-Amz-Signature=0a1b2c&x=1", "GET /b?X-Amz-Signature=[secret]&x=1"),
        ("{'password': 'Tr0ub4dor&3'}", "{'password': '[secret]'}"),
        ("the tokenizer has 32000 tokens: fine", "the tokenizer has 32000 tokens: fine"),
        ("tokens_per_second=12345678.9", "tokens_per_second=12345678.9"),
        ("  5%|5 \r 50%|50\r100%|100\r", "100%|100"),
        ("a\x00b\udcff", "a\ufffdb"),
    ],
)
def test_what_a_log_may_not_tell(text: str, shown: str) -> None:
    assert clean(text.encode("utf-8", "ignore")) == shown


def test_a_long_log_is_sent_in_few_pieces() -> None:
    lines = [f"step {number}: loss 3.0\n" for number in range(20_000)]

    pieces = list(in_pieces(lines))

    assert "".join(pieces) == "".join(lines)
    assert len(pieces) < 10
    assert "".join(in_pieces([])) == ""


def test_levels_are_read_from_lines_of_several_kinds() -> None:
    text = (
        "starting\nUserWarning: slow\n2026-01-01 ERROR broken\nTraceback (most recent call last):\n"
        '  File "x.py"\nValueError: no\n{"level": "debug", "event": "x"}\n'
    )

    assert [line.level for line in lines_of(text)] == [
        *("info", "warning", "error", "error", "error", "error", "debug"),
    ]
