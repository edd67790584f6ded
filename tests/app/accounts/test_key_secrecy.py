"""A key is known to who holds it: whoever reads the database or the logs has none, on both databases."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from app.db.base import Base
from app.db.session import read_only


@pytest.fixture
def keys(client: TestClient) -> list[str]:
    """One made at the start, one by a request that may be repeated, one that took the place of another."""
    repeatable = {"Idempotency-Key": "k"}
    made = client.post("/v1/api_keys", json={"name": "made"}, headers=repeatable).json()
    replaced = client.post("/v1/api_keys", json={"name": "old"}).json()
    rotated = client.post(f"/v1/api_keys/{replaced['id']}/rotate", json={}).json()
    first = client.headers["Authorization"].removeprefix("Bearer ")
    return [first, made["secret"], replaced["secret"], rotated["secret"]]


def test_a_dump_of_the_database_holds_no_key_that_works(
    client: TestClient, engine: Engine, keys: list[str]
) -> None:
    cells = dump(engine)
    hashes = [cell for cell in cells if len(cell) == 64]
    guesses = {*cells, *(f"{known_of(key)}_{text}" for key in keys for text in hashes)}

    assert len(hashes) >= len(keys)
    assert [key for key in keys if any(key in cell for cell in cells)] == []
    for key in keys:
        assert status_with(client, key) == 200
    for guess in guesses:
        assert status_with(client, guess) == 401, guess


def test_no_answer_event_or_log_repeats_a_key(
    client: TestClient, keys: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for key in keys:
        wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
        for text in (wrong, f"{key} ", key.upper()):
            client.get("/v1/jobs", headers={"Authorization": f"Bearer {text}"})
        client.get("/v1/jobs", params={"key": "x"}, headers={"Authorization": f"Bearer {key}"})
    shown = [client.get(path).text for path in ("/v1/api_keys", "/v1/audit_events", "/v1/me")]
    printed = "".join(capfd.readouterr())

    assert "/v1/jobs" in printed
    for key in keys:
        secret = key.removeprefix(f"{known_of(key)}_")
        assert not any(secret[:20] in text for text in (*shown, printed))


def known_of(key: str) -> str:
    """The part of a key that is no secret; there may be more underscores behind it."""
    return "_".join(key.split("_")[:2])


def dump(engine: Engine) -> set[str]:
    """Every text in the database, those inside of JSON included."""
    with read_only(engine) as session:
        rows = [
            value
            for table in Base.metadata.sorted_tables
            for row in session.execute(select(table))
            for value in row
        ]
    found: set[str] = set()
    for value in rows:
        found |= texts_in(value)
    return {text for text in found if text.isascii() and text.isprintable() and text.strip()}


def texts_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return set().union(*(texts_in(item) for item in value))
    if not isinstance(value, str):
        return {str(value)}
    try:
        inner = json.loads(value)
    except ValueError:
        return {value}
    return {value} | (texts_in(inner) if isinstance(inner, (dict, list)) else set())


def status_with(client: TestClient, text: str) -> int:
    return client.get("/v1/jobs", headers={"Authorization": f"Bearer {text}"}).status_code
