"""What a stage prints is in the database a moment later, and stays there."""

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from app.db.models import LogChunk
from app.db.session import in_transaction, read_only
from app.following.log_reading import LogCut, read_lines
from app.jobs import attempt_logs
from app.jobs import service as jobs
from app.jobs.attempt_logs import append_log
from tests.workers.conftest import Workshop
from workers.lease import Lease
from workers.log_shipping import LogShipper


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def claimed(workshop: Workshop) -> jobs.ClaimedStep:
    workshop.submit()
    step = in_transaction(
        workshop.worker.engine, jobs.claim_step, worker_id="w", resources=("cpu", "gpu"), lease_seconds=60
    )
    assert step is not None
    return step


def ship(workshop: Workshop, step: jobs.ClaimedStep, path: Path) -> None:
    engine = workshop.worker.engine
    with (
        Lease(engine, step, lease_seconds=60, heartbeat_seconds=1, max_offline_seconds=60) as lease,
        LogShipper(engine, step, lease=lease, path=path),
    ):
        pass


def test_lines_are_there_while_the_stage_still_runs(
    make_workshop: Callable[..., Workshop], any_database_url: str
) -> None:
    """Also what a worker leaves that is killed at this moment: nothing of it is in the worker's hands."""
    workshop = make_workshop(database_url=any_database_url, heartbeat_seconds=0.2).playing(
        "speaks_and_works_when_told"
    )
    job_id = workshop.submit()
    thread = workshop.run_one_in_background()

    wait_for(lambda: workshop.log(job_id))
    while_running = workshop.log(job_id)
    (request,) = workshop.worker.workspaces.glob("step-*/*/request.json")
    request.with_name("go").touch()
    thread.join(timeout=60)

    assert while_running == ["100 %", "Authorization: Bearer [secret]"]
    assert workshop.log(job_id) == [*while_running, "working"]


def test_of_a_flood_head_and_tail_are_kept(workshop: Workshop, tmp_path: Path) -> None:
    step, path = claimed(workshop), tmp_path / "log.txt"
    lines = [f"line {number:07d} {'.' * 84}" for number in range(30_000)]
    path.write_text("\n".join(lines))

    ship(workshop, step, path)

    found = workshop.log(step.job_id)
    gap = next(number for number, line in enumerate(found) if line.startswith("..."))
    assert found[:gap] == lines[:gap]
    assert found[gap + 1 :] == lines[-len(found[gap + 1 :]) :]
    left_out = sum(len(line) + 1 for line in lines[gap : len(lines) - len(found[gap + 1 :])])
    assert found[gap] == f"... {left_out} bytes are left out here ..."
    kept = attempt_logs.HEAD_BYTES + attempt_logs.TAIL_BYTES
    with read_only(workshop.worker.engine) as session:
        stored = sum(session.scalars(select(LogChunk.num_bytes)))
    assert kept - 4 * attempt_logs.MAX_CHUNK_BYTES < stored < kept + 4 * attempt_logs.MAX_CHUNK_BYTES


def test_an_attempt_that_lost_its_step_adds_nothing(workshop: Workshop, tmp_path: Path) -> None:
    step, path = claimed(workshop), tmp_path / "log.txt"
    path.write_text("mine\n")
    workshop.lose(step.job_id)

    ship(workshop, step, path)

    assert workshop.log(step.job_id) == []


def test_a_piece_whose_answer_was_lost_is_stored_once(workshop: Workshop) -> None:
    step, engine = claimed(workshop), workshop.worker.engine
    piece = {"step_id": step.step_id, "attempt": step.attempt, "first_byte": 0, "data": b"once\n"}

    assert in_transaction(engine, append_log, **piece)
    assert in_transaction(engine, append_log, **piece)

    assert workshop.log(step.job_id) == ["once"]


def test_the_tail_is_read_from_the_end(workshop: Workshop) -> None:
    step, engine = claimed(workshop), workshop.worker.engine
    for number in range(40):
        data = f"DEBUG {number}\nINFO {number}\n".encode()
        fence = {"step_id": step.step_id, "attempt": step.attempt}
        in_transaction(engine, append_log, **fence, first_byte=100 * number, data=data)
    cut = LogCut(job_id=step.job_id, steps={step.step_id: step.name}, tail=3)

    assert [line.text for line in read_lines(engine, cut)] == ["INFO 38", "DEBUG 39", "INFO 39"]
