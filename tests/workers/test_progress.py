"""What a stage says is written once a second, all of it, and never by an attempt that lost its step."""

import pytest
from sqlalchemy import Engine

from app.db.session import create_engine, transaction
from app.jobs import service as jobs
from app.jobs.service import ClaimedStep
from tests.workers.conftest import Workshop
from workers.progress import MAX_NOTES, LeaseLostError, ProgressRecorder


def claim(workshop: Workshop) -> ClaimedStep:
    workshop.submit()
    with transaction(workshop.worker.engine) as session:
        step = jobs.claim_step(session, worker_id="w", resources=["cpu"], lease_seconds=60)
    assert step is not None
    return step


def recorder_of(workshop: Workshop, step: ClaimedStep, *, engine: Engine | None = None) -> ProgressRecorder:
    return ProgressRecorder(engine or workshop.worker.engine, step, publish_part=lambda _: None)


def progress(done: float) -> dict[str, object]:
    return {"type": "progress", "done": done, "total": 10, "unit": "steps", "tokens": None}


def test_writes_are_a_second_apart_and_the_last_one_wins(workshop: Workshop) -> None:
    step = claim(workshop)
    recorder = recorder_of(workshop, step)

    for done in (1, 2, 3):
        recorder.receive(progress(done))
        recorder.flush()
    first = workshop.steps(step.job_id)["prepare"].done
    recorder.flush(now=True)

    assert first == 1
    assert workshop.steps(step.job_id)["prepare"].done == 3


def test_every_point_is_kept_also_one_that_is_not_finite(workshop: Workshop) -> None:
    step = claim(workshop)
    recorder = recorder_of(workshop, step)

    for number in range(5):
        recorder.receive({"type": "metrics", "step": number, "values": {"loss": float("nan")}})
    recorder.flush(now=True)

    assert [point.metric_step for point in workshop.points(step.job_id)] == list(range(5))
    assert workshop.points(step.job_id)[0].values == {"loss": None}


def test_a_talkative_stage_fills_the_history_only_so_far(workshop: Workshop) -> None:
    step = claim(workshop)
    recorder = recorder_of(workshop, step)

    for number in range(MAX_NOTES + 50):
        recorder.receive({"type": "note", "message": f"note {number}", "details": {}})
    recorder.flush(now=True)

    notes = [event.message for event in workshop.events(step.job_id) if event.type == "note"]
    assert len(notes) == MAX_NOTES
    assert notes[-1] == "further notes of this attempt are only in its log"


@pytest.mark.parametrize(
    "event",
    [progress(1), {"type": "metrics", "step": 1, "values": {"loss": 1.0}}, {"type": "note", "message": "x"}],
)
def test_a_stale_attempt_is_told(workshop: Workshop, event: dict[str, object]) -> None:
    step = claim(workshop)
    workshop.lose(step.job_id)
    recorder = recorder_of(workshop, step)

    recorder.receive(event)
    with pytest.raises(LeaseLostError):
        recorder.flush(now=True)


def test_a_database_that_is_away_costs_nothing(workshop: Workshop) -> None:
    step = claim(workshop)
    away = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    recorder = recorder_of(workshop, step, engine=away)
    recorder.receive(progress(7))
    recorder.flush(now=True)

    recorder._engine = workshop.worker.engine
    recorder.flush(now=True)

    assert workshop.steps(step.job_id)["prepare"].done == 7
    away.dispose()
