"""Lists read an index in their own order, on both databases: no page sorts, none reads rows to skip them."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, text

from app.db.base import new_id
from app.db.models import Job, JobLabel
from app.db.session import read_only, transaction
from app.jobs.filters import JobFilters, count_by_status, page_of_jobs
from app.jobs.lifecycle import JobStatus
from app.lists import PageRequest
from tests.app.jobs import builders as given

NUM_JOBS = 300
NUM_PROJECTS = 8
LISTED = "ix_jobs_listed"
LABELS = "ix_job_labels_project_id_kind_key_value_job_id"
FILTERS = {
    "none": JobFilters(),
    "status": JobFilters(statuses=[JobStatus.RUNNING]),
    "stage and strategy": JobFilters(stages=["train"], strategies=["paper"]),
    "text": JobFilters(text="zzz"),
    "maker": JobFilters(created_by="key-x"),
    "time": JobFilters(created_before=datetime(2020, 1, 1, tzinfo=UTC)),
    "everything": JobFilters(statuses=[JobStatus.FAILED, JobStatus.QUEUED], stages=["train"], text="z"),
}
LABELLED = {
    "tag": JobFilters(tags=["all"]),
    "pair": JobFilters(metadata=[("run", "7")]),
    "tag and status": JobFilters(tags=["all"], statuses=[JobStatus.CANCELLED]),
}
PAGES = [
    PageRequest(after=None, before=None, limit=20, order="desc"),
    PageRequest(after=None, before="job-" + "5" * 26, limit=20, order="asc"),
]


@pytest.fixture
def project_id(engine: Engine) -> str:
    """One of several projects with as many jobs each."""
    projects = [given.make_project(engine, f"project {number}") for number in range(NUM_PROJECTS)]
    for project_id in projects:
        same = {"project_id": project_id, "name": "x", "search_text": "x", "spec": {}, "desired": "run"}
        same |= {"spec_digest": "0", "status": "succeeded"}
        label = {"project_id": project_id, "kind": "tag", "key": "all", "value": ""}
        ids = [new_id("job") for _ in range(NUM_JOBS)]
        with transaction(engine) as session:
            session.execute(insert(Job), [{"id": job_id, **same} for job_id in ids])
            session.execute(insert(JobLabel), [{"job_id": job_id, **label} for job_id in ids])
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE jobs, job_labels"))
    return projects[NUM_PROJECTS // 2]


def test_pages_come_from_the_index(engine: Engine, project_id: str) -> None:
    for (name, filters), page in itertools.product(FILTERS.items(), PAGES):
        with statements(engine) as said, read_only(engine) as session:
            page_of_jobs(session, project_id=project_id, filters=filters, page=page)

        assert_reads_in_order(explain(engine, *said[0]), index=LISTED, of=name)


def test_labels_are_found_in_their_index(engine: Engine, project_id: str) -> None:
    for name, filters in LABELLED.items():
        with statements(engine) as said, read_only(engine) as session:
            page_of_jobs(session, project_id=project_id, filters=filters, page=PAGES[0])

        assert_reads_in_order(explain(engine, *said[0]), index=LABELS, of=name)


def test_counts_read_no_rows(engine: Engine, project_id: str) -> None:
    with statements(engine) as said, read_only(engine) as session:
        count_by_status(session, project_id=project_id, filters=JobFilters())

    plan = explain(engine, *said[0])
    assert LISTED in plan
    assert "COVERING" in plan or "Index Only Scan" in plan


def assert_reads_in_order(plan: str, *, index: str, of: str) -> None:
    unwanted = ("SCAN", "TEMP B-TREE", "Seq Scan", "Sort ")
    assert index in plan, (of, plan)
    assert "COVERING INDEX" in plan or "Index Only Scan" in plan, (of, plan)
    assert not [words for words in unwanted if words in plan], (of, plan)


@contextmanager
def statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the database meanwhile: SQL with its parameters."""
    said: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        # Not what tells PostgreSQL whose session it is.
        if statement.startswith("SELECT") and "set_config" not in statement:
            said.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


def explain(engine: Engine, statement: str, parameters: Any) -> str:
    """How the database answers a statement when it may use every index."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        else:
            _prefer_indices(connection)
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)


def _prefer_indices(connection: Connection) -> None:
    """A few thousand rows fit in some pages, which PostgreSQL would rather read and sort than look up."""
    for way in ("seqscan", "bitmapscan", "sort", "hashjoin"):
        connection.execute(text(f"SET LOCAL enable_{way} = off"))
