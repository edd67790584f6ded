"""Ids and the database's clock."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import StatementError

from app.db.base import db_time, is_id, new_id, unix_seconds
from app.db.models import Project
from app.db.session import read_only, transaction


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    early = new_id("job")
    time.sleep(0.002)
    late = new_id("job")

    assert early < late
    assert len({new_id("job") for _ in range(1000)}) == 1000
    assert is_id(early, prefix="job")


@pytest.mark.parametrize(
    "text", ["", "job-", "step-00000000000000000000000000", "job-0\x00", "JOB-1", "job-" + "0" * 27]
)
def test_what_is_not_an_id(text: str) -> None:
    assert not is_id(text, prefix="job")


def test_the_clock_is_the_databases_and_can_be_moved(engine: Engine) -> None:
    with read_only(engine) as session:
        now, later, earlier = session.execute(select(db_time(), db_time(60), db_time(-0.5))).one()

    assert now.tzinfo is not None
    assert timedelta(seconds=59.9) < later - now < timedelta(seconds=60.1)
    assert timedelta(seconds=0.4) < now - earlier < timedelta(seconds=0.6)
    assert abs((datetime.now(UTC) - now).total_seconds()) < 60


def test_stored_times_compare_with_the_clock(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Project(name="p"))
        session.flush()
        before = session.scalars(select(Project.name).where(Project.created_at < db_time(-1))).all()
        after = session.scalars(select(Project.name).where(Project.created_at < db_time(1))).all()

    assert (before, after) == ([], ["p"])


def test_times_keep_their_moment_across_zones(engine: Engine) -> None:
    moment = datetime(2026, 3, 1, 2, 30, tzinfo=timezone(timedelta(hours=5)))
    with transaction(engine) as session:
        session.add(Project(name="p", created_at=moment))

    with read_only(engine) as session:
        stored = session.scalars(select(Project.created_at)).one()

    assert stored == moment
    assert unix_seconds(stored) == 1772314200


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(StatementError, match="without a zone"), transaction(engine) as session:
        session.add(Project(name="p", created_at=datetime(2026, 1, 1)))
