"""Noting the use of a key holds up nobody."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.accounts import repository, service
from app.accounts.bootstrap import ensure_admin_key
from app.accounts.last_use import LastUses
from app.db.models import ApiKey
from app.db.session import read_only, transaction

PEPPER = b"p" * 32


@pytest.fixture
def key_id(engine: Engine, tmp_path: Path) -> str:
    text = ensure_admin_key(engine, path=tmp_path / "admin_key", pepper=PEPPER)
    with read_only(engine) as session:
        return service.authenticate(session, text, pepper=PEPPER).principal.key_id


def was_used(engine: Engine, key_id: str) -> bool:
    with read_only(engine) as session:
        return session.get_one(ApiKey, key_id).last_used_at is not None


def test_one_request_at_a_time_notes_it(engine: Engine, key_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uses, notes = LastUses(), list[str]()
    touch_key = repository.touch_key

    def touch_slowly(session: Session, key_id: str) -> None:
        notes.append(key_id)
        if len(notes) == 1:
            # What other requests do meanwhile.
            uses.note(engine, key_id)
        touch_key(session, key_id)

    monkeypatch.setattr(repository, "touch_key", touch_slowly)
    uses.note(engine, key_id)

    assert notes == [key_id]
    assert was_used(engine, key_id)
    uses.note(engine, key_id)
    assert notes == [key_id, key_id]


def test_a_refused_request_leaves_the_note_to_the_next_one(client: TestClient, engine: Engine) -> None:
    with read_only(engine) as session:
        key_id = session.scalars(select(ApiKey.id)).one()

    assert client.get("/v1/jobs/job-none").status_code == 404
    assert client.get("/v1/jobs").status_code == 200

    assert was_used(engine, key_id)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_nobody_waits_for_whoever_is_noting_it(engine: Engine, key_id: str) -> None:
    with transaction(engine) as other:
        other.execute(select(ApiKey.id).where(ApiKey.id == key_id).with_for_update())
        with transaction(engine) as session:
            repository.touch_key(session, key_id)

    assert not was_used(engine, key_id)


def test_a_database_that_is_away_costs_the_note_and_nothing_else(engine: Engine, key_id: str) -> None:
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", poolclass=QueuePool)

    LastUses().note(away, key_id)

    assert not was_used(engine, key_id)
