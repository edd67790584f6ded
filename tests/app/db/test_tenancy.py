"""The first wall: a bound session keeps to its project, also where a query forgot to."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, delete, exists, func, select, union_all, update
from sqlalchemy.orm import Session, aliased

from app.db.models import Event, IdempotencyKey, Job, Step
from app.db.session import read_only, transaction
from app.db.tenancy import of_project
from tests.app.jobs import builders as given

OtherJob = aliased(Job)

FORGETFUL_READS: dict[str, Callable[[Session], list[str]]] = {
    "entities": lambda session: [job.project_id for job in session.scalars(select(Job))],
    "columns": lambda session: list(session.scalars(select(Job.project_id))),
    "alias": lambda session: list(session.scalars(select(OtherJob.project_id))),
    "join": lambda session: list(session.scalars(select(Step.project_id).join(Job, Job.id == Step.job_id))),
    "subquery": lambda session: list(
        session.scalars(select(select(Event.project_id).distinct().subquery().c.project_id))
    ),
    "union": lambda session: list(
        session.scalars(union_all(select(Job.project_id), select(Step.project_id)))
    ),
    "where exists": lambda session: list(
        session.scalars(select(Step.project_id).where(exists().where(Job.id == Step.job_id)))
    ),
}


@pytest.fixture
def projects(engine: Engine) -> tuple[str, str]:
    """Ours and theirs, each with a job."""
    ours, theirs = given.make_project(engine, "ours"), given.make_project(engine, "theirs")
    for project_id in (ours, theirs):
        given.submit(engine, project_id)
    return ours, theirs


@pytest.mark.parametrize("read", FORGETFUL_READS.values(), ids=FORGETFUL_READS)
def test_a_query_without_its_filter_reads_no_foreign_row(
    engine: Engine, projects: tuple[str, str], read: Callable[[Session], list[str]]
) -> None:
    ours, theirs = projects
    with read_only(engine) as session:
        assert set(read(session)) == {ours, theirs}

    for project_id in projects:
        with read_only(of_project(engine, project_id)) as session:
            assert set(read(session)) == {project_id}


def test_counts_and_lookups_by_id_know_no_foreign_row(engine: Engine, projects: tuple[str, str]) -> None:
    ours, theirs = projects
    foreign = job_of(engine, theirs)

    with transaction(of_project(engine, ours)) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
        assert session.get(Job, foreign) is None
        assert session.scalars(select(Job).where(Job.id == foreign).with_for_update()).all() == []


def test_a_change_without_its_filter_reaches_no_foreign_row(
    engine: Engine, projects: tuple[str, str]
) -> None:
    ours, theirs = projects

    with transaction(of_project(engine, ours)) as session:
        session.execute(update(Job).values(name="ours now"))
        session.execute(update(Job).where(Job.id == job_of(engine, theirs)).values(name="ours now"))

    with read_only(engine) as session:
        names = {job.project_id: job.name for job in session.scalars(select(Job))}
    assert names[ours] == "ours now"
    assert names[theirs] != "ours now"


def test_a_delete_without_its_filter_reaches_no_foreign_row(
    engine: Engine, projects: tuple[str, str]
) -> None:
    with transaction(engine) as session:
        session.add_all(kept_answer(project_id) for project_id in projects)

    with transaction(of_project(engine, projects[0])) as session:
        session.execute(delete(IdempotencyKey))

    with read_only(engine) as session:
        assert session.scalars(select(IdempotencyKey.project_id)).all() == [projects[1]]


def test_a_row_of_another_project_is_not_stored(engine: Engine, projects: tuple[str, str]) -> None:
    ours, theirs = projects
    foreign = Job(project_id=theirs, name="x", spec={}, spec_digest="0" * 64, status="queued", desired="run")

    with pytest.raises(AssertionError, match=theirs), transaction(of_project(engine, ours)) as session:
        session.add(foreign)


def test_binding_one_engine_binds_no_other(engine: Engine, projects: tuple[str, str]) -> None:
    of_project(engine, projects[0])

    with read_only(engine) as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def job_of(engine: Engine, project_id: str) -> str:
    with read_only(engine) as session:
        return session.scalars(select(Job.id).where(Job.project_id == project_id)).one()


def kept_answer(project_id: str) -> IdempotencyKey:
    answer = {"status": 200, "headers": {}, "body": "{}"}
    return IdempotencyKey(project_id=project_id, key="k", request_digest="0" * 64, **answer)
