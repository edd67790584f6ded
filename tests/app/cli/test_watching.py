"""What a watcher sees of a running job."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from app.cli import watching
from app.cli.watching import LineView, LiveView, headline
from app.client import Event, Job, JobUpdate, MetricPoint, Step
from tests.app.cli.conftest import EVENT, JOB, POINT, STEP


def update_of(**changes: object) -> JobUpdate:
    progress = {"stage": "train.fused", "percent": 40.0, "eta_seconds": 75}
    running = {"status": "running", "progress": {"percent": 50.0, "done": 2, "total": 4, "unit": "steps"}}
    return JobUpdate(
        job=Job.model_validate({**JOB, "status": "running", "progress": progress, **changes}),
        steps=[Step.model_validate({**STEP, **running})],
        events=[Event.model_validate(EVENT)],
        metrics=[MetricPoint.model_validate(POINT)],
    )


def test_the_live_view_shows_bar_count_loss_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(watching, "terminal", lambda: screen)

    with LiveView() as view:
        view.show(update_of())

    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    for text in ("running", "40%", "about 1m15s left", "2 of 4 steps", "step 4, loss 1.5000", "━"):
        assert text in shown


def test_lines_show_each_event_once_and_progress_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 1.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))

    with LineView() as view:
        for events in ([Event.model_validate(EVENT)], [], []):
            view.show(JobUpdate(job=update_of().job, steps=update_of().steps, events=events, metrics=[]))

    lines = capsys.readouterr().out.splitlines()
    assert lines.count("train.fused started") == 1
    assert lines.count("train.fused  2 of 4 steps") == 1


def test_lines_show_the_last_loss_once_when_a_training_ends(capsys: pytest.CaptureFixture[str]) -> None:
    running = update_of()
    ended = JobUpdate(job=running.job, steps=[Step.model_validate(STEP)], events=[], metrics=[])

    with LineView() as view:
        for update in (running, ended, ended):
            view.show(update)

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "loss" in line] == ["train.fused  step 4, loss 1.5000"]


def test_text_from_the_service_is_not_taken_for_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(watching, "terminal", lambda: screen)

    with LiveView() as view:
        view.show(update_of(name="[red]name[/]"))

    assert isinstance(screen.file, io.StringIO)
    assert "[red]name[/]" in screen.file.getvalue()


def test_text_from_the_service_commands_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(watching, "terminal", lambda: screen)
    hostile = Event.model_validate({**EVENT, "message": "a\x1b]0;owned\x07\x9b2Jb\r"})
    update = replace(update_of(name="\x1b[2Jname"), events=[hostile])

    with LiveView() as live, LineView() as lines:
        live.show(update)
        lines.show(update)

    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue() + capsys.readouterr().out
    assert shown.count(r"a\x1b]0;owned\x07\x9b2Jb\r") >= 2
    assert r"\x1b[2Jname" in shown
    assert not any(sequence in shown for sequence in ("\x1b[2J", "\x1b]0", "\x07", "\x9b"))


def test_a_job_that_waits_says_why_and_where_in_the_queue() -> None:
    waiting = update_of(status="queued", status_reason="waiting_for_turn", queue_position=2).job
    retrying = update_of(status="queued", status_reason="retrying", queue_position=None).job
    ended = update_of(status="failed", status_reason="align failed").job

    assert "queued  (waiting for turn, place 2)  40%" in headline(waiting)
    assert "queued  (retrying)  40%" in headline(retrying)
    assert headline(ended).endswith("failed")
