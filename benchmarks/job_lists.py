"""`python -m benchmarks.job_lists URL`: pages of a list of 100,000 jobs, with filters of every kind.

The database at URL must be empty and is left full. Prints the median time of a page of 20 over several tries,
all of it in the cache by then.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.models import Job, JobLabel, Project
from app.db.session import create_engine, read_only, transaction
from app.jobs.filters import JobFilters, count_by_status, page_of_jobs
from app.jobs.lifecycle import JobStatus
from app.lists import PageRequest

_CHUNK = 2000
_TRIES = 7
_PADDING = "x" * 2500
"""About as much as a spec takes."""
_PAGE = PageRequest(after=None, before=None, limit=20, order="desc")
_FILTERS: Mapping[str, JobFilters] = {
    "no filter": JobFilters(),
    "a rare status": JobFilters(statuses=[JobStatus.RUNNING]),
    "a status of none": JobFilters(statuses=[JobStatus.CANCELLED]),
    "stage and strategy": JobFilters(stages=["train"], strategies=["paper"]),
    "a text in none": JobFilters(text="nowhere"),
    "a maker of none": JobFilters(created_by="key-none"),
    "a time before all": JobFilters(created_before=datetime(2020, 1, 1, tzinfo=UTC)),
    "a tag of all": JobFilters(tags=["all"]),
    "a tag of some": JobFilters(tags=["some"]),
    "both tags": JobFilters(tags=["all", "some"]),
    "a pair of one": JobFilters(metadata=[("run", "77")]),
    "a tag of all, a status of none": JobFilters(tags=["all"], statuses=[JobStatus.CANCELLED]),
}


def fill(engine: Engine, *, num_jobs: int) -> str:
    """A project with finished jobs, some failed, a few running; its id."""
    with transaction(engine) as session:
        project = Project(name="list")
        session.add(project)
        session.flush()
        for first in range(0, num_jobs, _CHUNK):
            numbers = range(first, min(num_jobs, first + _CHUNK))
            session.execute(insert(Job), [_job(project.id, number) for number in numbers])
            session.execute(
                insert(JobLabel), [label for number in numbers for label in _labels(project.id, number)]
            )
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE jobs, job_labels"))
    return project.id


def median_ms(engine: Engine, ask: Callable[[Session], object]) -> float:
    """Time of an answer, in a transaction of its own each."""
    times = []
    for _ in range(_TRIES):
        with read_only(engine) as session:
            began = time.perf_counter()
            ask(session)
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _job(project_id: str, number: int) -> dict[str, Any]:
    status = "running" if number % 5000 == 0 else "failed" if number % 20 == 2 else "succeeded"
    return {
        "id": _id(number),
        "project_id": project_id,
        "name": f"job {number}",
        "search_text": f"job {number}",
        "spec": {"padding": _PADDING},
        "spec_digest": "0" * 64,
        "status": status,
        "stage": None if status == "succeeded" else "train",
        "strategy": "paper" if number % 100 == 0 else "default",
        "desired": "run",
        "created_by": f"key-{number % 50}",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
    }


def _labels(project_id: str, number: int) -> list[dict[str, str]]:
    same = {"job_id": _id(number), "project_id": project_id}
    tags = ["all", "some"] if number % 10_000 == 5 else ["all"]
    pair = {**same, "kind": "metadata", "key": "run", "value": str(number)}
    return [pair, *({**same, "kind": "tag", "key": tag, "value": ""} for tag in tags)]


def _id(number: int) -> str:
    return f"job-{number:026d}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_lists", description=__doc__)
    parser.add_argument("url", help="of an empty database")
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    migrate.upgrade(options.url)
    engine = create_engine(options.url)
    project_id = fill(engine, num_jobs=options.jobs)
    for name, filters in _FILTERS.items():
        page = median_ms(engine, partial(page_of_jobs, project_id=project_id, filters=filters, page=_PAGE))
        print(f"{name:<32} {page:8.1f} ms")
    counts = median_ms(engine, partial(count_by_status, project_id=project_id, filters=JobFilters()))
    print(f"{'counts by status':<32} {counts:8.1f} ms")


if __name__ == "__main__":
    main()
