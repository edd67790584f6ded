"""One step, from claim to completion. The poll loop and the Celery task both call `run_one`.

Long work happens between transactions, never in one. Every write carries the attempt; when one is refused the
step belongs to somebody else, and this worker stops without another word.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.artifacts.blobs import store_and_record
from app.artifacts.kinds import ArtifactKind
from app.artifacts.service import StoredFolder, record_artifact, store_folder
from app.jobs import service as jobs
from app.jobs.lifecycle import AttemptOutcome, Instruction
from app.jobs.log_text import scrub
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from fusion.errors import CapacityError, ErrorDict, FusionError, InfrastructureError, InternalError
from fusion.exhaustion import is_disk_full
from fusion.failpoints import failpoint
from workers.capture_cache import keep_within_limit
from workers.child_process import started
from workers.hub_cache import prune_hub_cache
from workers.lease import Lease
from workers.log_shipping import LogShipper
from workers.parts import PartPublisher, origin_of
from workers.progress import LeaseLostError, ProgressRecorder
from workers.settling import UNREACHABLE, claim, conclude, end_once, patiently
from workers.stage_request import prepare_request
from workers.supervision import (
    Failed,
    Lost,
    Outcome,
    Patience,
    Stop,
    Stopped,
    Succeeded,
    log_tail,
    supervise,
)
from workers.worker import Worker
from workers.workspace import Workspace, reserve

log = get_logger(__name__)


def run_one(worker: Worker) -> bool:
    """Claim a step that fits and run it to its end. Returns whether there was one."""
    if worker.drain.is_set():
        return False
    step = claim(worker)
    if step is None:
        return False
    ids = {"job_id": step.job_id, "step_id": step.step_id, "attempt": step.attempt, "step": step.name}
    with structlog.contextvars.bound_contextvars(**ids):
        log.info("step_claimed", worker_id=worker.id)
        failpoint("step.claimed")
        _run_claimed(worker, step)
    return True


def run_until_idle(worker: Worker) -> int:
    """Run steps until nothing fits. Returns how many there were."""
    num_steps = 0
    while run_one(worker):
        num_steps += 1
    return num_steps


def _run_claimed(worker: Worker, step: ClaimedStep) -> None:
    settings = worker.settings
    with Lease(
        worker.engine,
        step,
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        max_offline_seconds=settings.max_offline_seconds,
    ) as lease:
        try:
            _run_in_workspace(worker, step, lease=lease)
        except LeaseLostError:
            log.warning("step_lost")


def _run_in_workspace(worker: Worker, step: ClaimedStep, *, lease: Lease) -> None:
    """Run the stage and tell how it ended; what goes wrong around it (a full disk) ends the attempt, too."""
    try:
        with reserve(worker.workspaces, step_id=step.step_id, attempt=step.attempt) as workspace:
            outcome = _with_log_tail(_attempt(worker, step, workspace, lease=lease), workspace.log)
            _settle(worker, step, workspace, lease=lease, outcome=outcome)
    except LeaseLostError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the job is told
        failure = _as_fusion_error(error).to_dict()
        conclude(worker, step, jobs.fail_step, outcome=AttemptOutcome.FAILED, lease=lease, error=failure)


def _attempt(worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease) -> Outcome:
    """Run the stage. Every failure that is not a lost lease becomes an outcome."""
    try:
        secrets = prepare_request(worker, step, workspace)
        failpoint("inputs.fetched")
        stop = _wanted(worker, lease)
        if stop is not None:
            return Stopped(stop=stop)
        return _run_stage(worker, step, workspace, lease=lease, secrets=secrets)
    except LeaseLostError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the job is told
        return Failed(error=_as_fusion_error(error).to_dict())


def _as_fusion_error(error: Exception) -> FusionError:
    """What went wrong on this side of the pipe, by whom it concerns."""
    if isinstance(error, FusionError):
        return error
    log.error("attempt_failed", exc_info=error)
    if isinstance(error, UNREACHABLE):
        return InfrastructureError(f"the database failed: {error}", code="database_unavailable")
    if is_disk_full(error):
        return CapacityError(
            f"the worker's disk is full: {error}",
            code="insufficient_disk",
            hint="free space in the worker's data folder and retry",
        )
    if isinstance(error, OSError):
        return InfrastructureError(f"the worker's machine failed: {error}", code="worker_machine")
    return InternalError(f"{type(error).__name__}: {error}", code="internal")


def _run_stage(
    worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease, secrets: dict[str, str]
) -> Outcome:
    with (
        PartPublisher(worker.engine, worker.store, step, lease=lease, out=workspace.out) as parts,
        LogShipper(worker.engine, step, lease=lease, path=workspace.log),
        started(worker.stage_command, request=workspace.request, log=workspace.log, secrets=secrets) as child,
    ):
        failpoint("child.started")
        workspace.remember_child(child.pid)
        recorder = ProgressRecorder(worker.engine, step, publish_part=parts.publish)

        def wanted() -> Stop | None:
            return Stop.LOST if parts.is_lost else _wanted(worker, lease)

        patience = Patience(
            stall_seconds=worker.settings.stall_seconds[step.stage],
            grace_seconds=worker.settings.checkpoint_grace_seconds,
        )
        outcome = supervise(child, recorder, wanted=wanted, patience=patience)
        if step.stage == "extract":
            keep_within_limit(worker)
        if secrets:
            prune_hub_cache(worker.settings)
        if not (isinstance(outcome, Stopped) and outcome.stop is Stop.LOST):
            _write_rest(recorder, lease=lease)
        return outcome


def _write_rest(recorder: ProgressRecorder, *, lease: Lease) -> None:
    """What the stage said last, also after an outage."""
    try:
        patiently(recorder.write, lease=lease)
    except DBAPIError as error:
        log.warning("progress_not_written", error=str(error))


def _wanted(worker: Worker, lease: Lease) -> Stop | None:
    """What user and operator want of the running step, if not that it goes on."""
    instruction = lease.instruction
    if instruction is not Instruction.CONTINUE:
        return Stop(instruction.value)
    return Stop.DRAIN if worker.drain.is_set() else None


def _with_log_tail(outcome: Outcome, log_path: Path) -> Outcome:
    """A failure that carries the last lines of its log, and tells no secret."""
    if not isinstance(outcome, Failed | Lost):
        return outcome
    error = outcome.error
    told = {**error, "message": scrub(error["message"]), "log_tail": log_tail(log_path)}
    return replace(outcome, error=cast("ErrorDict", told))


def _settle(
    worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease, outcome: Outcome
) -> None:
    """Tell the database how the attempt ended."""
    log.info("attempt_ended", outcome=type(outcome).__name__, reason=_reason(outcome))
    match outcome:
        case Succeeded(figures=figures):
            _complete(worker, step, workspace, lease=lease, figures=figures)
        case Failed(error=error):
            conclude(worker, step, jobs.fail_step, outcome=AttemptOutcome.FAILED, lease=lease, error=error)
        case Lost(error=error):
            conclude(worker, step, jobs.lose_step, outcome=AttemptOutcome.LOST, lease=lease, error=error)
        case Stopped(stop=Stop.CANCEL):
            conclude(worker, step, jobs.confirm_cancelled, outcome=AttemptOutcome.CANCELLED, lease=lease)
        case Stopped(stop=Stop.LOST):
            raise LeaseLostError
        case Stopped(stop=stop):
            conclude(
                worker,
                step,
                jobs.release_step,
                outcome=AttemptOutcome.RELEASED,
                lease=lease,
                reason=stop.value,
            )


def _complete(
    worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease, figures: dict[str, object]
) -> None:
    """Store the output; then, in one transaction, make it an artifact and the step completed."""
    kind = ArtifactKind.MODEL if step.stage == "publish" else ArtifactKind.OUTPUT
    origin = origin_of(step, kind=kind, role=step.name)

    def record(session: Session, stored: StoredFolder) -> bool:
        fence: dict[str, Any] = {"step_id": step.step_id, "attempt": step.attempt}
        # The job before the step, as everybody locks them.
        jobs.lock_job_of_step(session, step.step_id)
        artifact_id = record_artifact(session, worker.store, stored, origin=origin)
        completed = artifact_id is not None and jobs.complete_step(
            session, **fence, artifact_id=artifact_id, figures=figures
        )
        failpoint("output.recorded")
        return completed

    def store_and_complete() -> bool:
        return store_and_record(
            worker.engine,
            lambda: store_folder(worker.store, workspace.out, project_id=step.project_id),
            record,
        )

    end_once(worker, step, store_and_complete, outcome=AttemptOutcome.SUCCEEDED, lease=lease)


def _reason(outcome: Outcome) -> str | None:
    match outcome:
        case Failed(error=error) | Lost(error=error):
            return error["code"]
        case Stopped(stop=stop):
            return stop.value
        case _:
            return None
