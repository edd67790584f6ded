"""While the database is away a step computes on up to a limit, commits nothing, and loses nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from app.jobs.service import ClaimedStep
from fusion.io.manifest import write_manifest
from tests.support.services import out_of_reach
from tests.workers.conftest import Workshop
from workers.lease import Lease
from workers.parts import PartPublisher
from workers.settling import claim

WAIT_SECONDS = 60.0
Outage = Callable[[], AbstractContextManager[None]]
MakeWorkshop = Callable[..., Workshop]


@pytest.fixture
def outage(postgres_server: str, postgres_database: str) -> Outage:
    """The database is away while the block runs."""
    return lambda: out_of_reach(postgres_server, postgres_database)


@pytest.fixture
def make(make_workshop: MakeWorkshop, postgres_database: str) -> MakeWorkshop:
    """Workshops on that database, with quick heartbeats."""
    return lambda **fields: make_workshop(
        database_url=postgres_database, heartbeat_seconds=0.1, lease_seconds=10, **fields
    )


def test_a_part_that_is_finished_in_an_outage_is_kept_afterwards(
    make: MakeWorkshop, outage: Outage, tmp_path: Path
) -> None:
    workshop, step = claimed(make)

    with publisher(workshop, step, out=tmp_path / "out") as parts:
        with outage():
            parts.publish(make_part(tmp_path / "out", "one"))
            time.sleep(1.0)
        parts.publish(make_part(tmp_path / "out", "two"))

    assert sorted(part.role for part in workshop.artifacts(step.job_id, "checkpoint")) == ["one", "two"]
    assert not parts.is_lost


def test_a_part_is_given_up_with_the_lease(make: MakeWorkshop, outage: Outage, tmp_path: Path) -> None:
    workshop, step = claimed(make)

    with outage(), publisher(workshop, step, out=tmp_path / "out", max_offline_seconds=0.5) as parts:
        parts.publish(make_part(tmp_path / "out", "one"))

    assert parts.is_lost
    assert workshop.artifacts(step.job_id, "checkpoint") == []


def test_a_stage_that_ends_in_an_outage_loses_nothing_of_what_it_did(
    make: MakeWorkshop, outage: Outage
) -> None:
    workshop = make().playing("works_when_told")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))
    (pid,) = workshop.family(job_id)

    with outage():
        tell_to_work(workshop)
        wait_for(lambda: not runs(pid))
        time.sleep(0.5)
    thread.join(timeout=WAIT_SECONDS)

    step = workshop.steps(job_id)["prepare"]
    assert (step.status, step.attempt, step.num_errors, step.num_losses) == ("succeeded", 1, 0, 0)
    assert [part.role for part in workshop.artifacts(job_id, "checkpoint")] == ["parts/one"]
    assert [point.values for point in workshop.points(job_id)] == [{"loss": 2.5}]
    assert "went well" in [event.message for event in workshop.events(job_id)]
    assert workshop.log(job_id) == ["working"]


def test_a_step_computes_on_without_a_database_and_not_for_ever(make: MakeWorkshop, outage: Outage) -> None:
    workshop = make(max_offline_seconds=4.0).playing("works_when_told")
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()
    wait_for(lambda: workshop.family(job_id))
    (pid,) = workshop.family(job_id)

    with outage():
        began = time.monotonic()
        time.sleep(2.0)
        still_ran = runs(pid)
        wait_for(lambda: not runs(pid))
        seconds = time.monotonic() - began
        thread.join(timeout=WAIT_SECONDS)

    step = workshop.steps(job_id)["prepare"]
    assert still_ran
    assert seconds > 3.0
    assert not thread.is_alive()
    assert list(workshop.worker.workspaces.glob("step-*")) == []
    assert (step.status, step.attempt) == ("running", 1), "its lease runs out; nothing was written for it"
    assert workshop.log(job_id) == []


def claimed(make: MakeWorkshop) -> tuple[Workshop, ClaimedStep]:
    workshop = make()
    workshop.submit()
    step = claim(workshop.worker)
    assert step is not None
    return workshop, step


@contextmanager
def publisher(
    workshop: Workshop, step: ClaimedStep, *, out: Path, max_offline_seconds: float = 60
) -> Iterator[PartPublisher]:
    engine, store = workshop.worker.engine, workshop.worker.store
    limits = {"heartbeat_seconds": 0.1, "max_offline_seconds": max_offline_seconds}
    with (
        Lease(engine, step, lease_seconds=10, **limits) as lease,
        PartPublisher(engine, store, step, lease=lease, out=out) as parts,
    ):
        yield parts


def make_part(out: Path, name: str) -> str:
    (out / name).mkdir(parents=True)
    (out / name / "data").write_text(name)
    write_manifest(out / name, kind="part")
    return name


def tell_to_work(workshop: Workshop) -> None:
    (request,) = workshop.worker.workspaces.glob("step-*/*/request.json")
    request.with_name("go").touch()


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
