"""One step, from claim to completion. The poll loop and the Celery task both call `run_one`.

Long work happens between transactions, never in one. Every write carries the attempt; when one is refused the
step belongs to somebody else, and this worker stops without another word.
"""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from app.artifacts.kinds import ArtifactKind
from app.db.session import in_transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import Instruction
from app.jobs.service import ClaimedStep
from app.logs import get_logger
from fusion.errors import CapacityError, FusionError, InfrastructureError, InternalError
from fusion.io.manifest import write_manifest
from workers.capture_cache import keep_within_limit
from workers.child_process import started
from workers.lease import Lease
from workers.parts import PartPublisher, publish_for
from workers.progress import LeaseLostError, ProgressRecorder
from workers.stage_request import prepare_request
from workers.supervision import Failed, Outcome, Stop, Stopped, Succeeded, supervise
from workers.worker import Worker
from workers.workspace import Workspace, reserve

RETRY_SECONDS = 2.0
ResultT = TypeVar("ResultT")

log = get_logger(__name__)


def run_one(worker: Worker) -> bool:
    """Claim a step that fits and run it to its end. Returns whether there was one."""
    if worker.drain.is_set():
        return False
    step = in_transaction(
        worker.engine,
        jobs.claim_step,
        worker_id=worker.id,
        resources=worker.resources,
        lease_seconds=worker.settings.lease_seconds,
    )
    if step is None:
        return False
    ids = {"job_id": step.job_id, "step_id": step.step_id, "attempt": step.attempt, "step": step.name}
    with structlog.contextvars.bound_contextvars(**ids):
        log.info("step_claimed", worker_id=worker.id)
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
    ) as lease:
        try:
            with reserve(worker.workspaces, step_id=step.step_id, attempt=step.attempt) as workspace:
                outcome = _attempt(worker, step, workspace, lease=lease)
                _keep_log(worker, step, workspace, outcome=outcome)
                _settle(worker, step, workspace, lease=lease, outcome=outcome)
        except LeaseLostError:
            log.warning("step_lost")


def _attempt(worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease) -> Outcome:
    """Run the stage. Every failure that is not a lost lease becomes an outcome."""
    try:
        prepare_request(worker, step, workspace)
        stop = _wanted(worker, lease)
        if stop is not None:
            return Stopped(stop=stop)
        return _run_stage(worker, step, workspace, lease=lease)
    except LeaseLostError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the job is told
        return Failed(error=_as_fusion_error(error).to_dict())


def _as_fusion_error(error: Exception) -> FusionError:
    """What went wrong on this side of the pipe, by whom it concerns."""
    if isinstance(error, FusionError):
        return error
    log.error("attempt_failed", exc_info=error)
    if isinstance(error, DBAPIError):
        return InfrastructureError(f"the database failed: {error}", code="database_unavailable")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CapacityError(
            f"the worker's disk is full: {error}",
            code="insufficient_disk",
            hint="free space in the worker's data folder and retry",
        )
    if isinstance(error, OSError):
        return InfrastructureError(f"the worker's machine failed: {error}", code="worker_machine")
    return InternalError(f"{type(error).__name__}: {error}", code="internal")


def _run_stage(worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease) -> Outcome:
    with (
        PartPublisher(worker.engine, worker.store, step, out=workspace.out) as parts,
        started(worker.stage_command, request=workspace.request, log=workspace.log) as child,
    ):
        workspace.remember_child(child.pid)
        recorder = ProgressRecorder(worker.engine, step, publish_part=parts.publish)

        def wanted() -> Stop | None:
            return Stop.LOST if parts.is_lost else _wanted(worker, lease)

        outcome = supervise(child, recorder, wanted=wanted, log=workspace.log)
        if step.stage == "extract":
            keep_within_limit(worker)
        if not (isinstance(outcome, Stopped) and outcome.stop is Stop.LOST):
            recorder.flush(now=True)
        return outcome


def _wanted(worker: Worker, lease: Lease) -> Stop | None:
    """What user and operator want of the running step, if not that it goes on."""
    instruction = lease.instruction
    if instruction is not Instruction.CONTINUE:
        return Stop(instruction.value)
    return Stop.DRAIN if worker.drain.is_set() else None


def _keep_log(worker: Worker, step: ClaimedStep, workspace: Workspace, *, outcome: Outcome) -> None:
    """Store the attempt's log, while the attempt may still write."""
    if not workspace.log.is_file() or (isinstance(outcome, Stopped) and outcome.stop is Stop.LOST):
        return
    role = f"{step.name}.attempt-{step.attempt}"
    try:
        write_manifest(workspace.log_folder, kind="log", files=[workspace.log.name])
        publish_for(worker.engine, worker.store, step, workspace.log_folder, kind=ArtifactKind.LOG, role=role)
    except (FusionError, DBAPIError) as error:
        log.warning("log_not_kept", error=str(error))


def _settle(
    worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease, outcome: Outcome
) -> None:
    """Tell the database how the attempt ended."""
    log.info("attempt_ended", outcome=type(outcome).__name__, reason=_reason(outcome))
    match outcome:
        case Succeeded(figures=figures):
            _complete(worker, step, workspace, lease=lease, figures=figures)
        case Failed(error=error):
            _insist(lambda: _write(worker, step, jobs.fail_step, error=error), lease=lease)
        case Stopped(stop=Stop.CANCEL):
            _insist(lambda: _write(worker, step, jobs.confirm_cancelled), lease=lease)
        case Stopped(stop=Stop.LOST):
            raise LeaseLostError
        case Stopped(stop=stop):
            _insist(lambda: _write(worker, step, jobs.release_step, reason=stop.value), lease=lease)


def _complete(
    worker: Worker, step: ClaimedStep, workspace: Workspace, *, lease: Lease, figures: dict[str, object]
) -> None:
    """Publish the output, then complete: a completed step must always be downloadable."""
    kind = ArtifactKind.MODEL if step.stage == "publish" else ArtifactKind.OUTPUT

    def publish() -> str:
        artifact_id = publish_for(worker.engine, worker.store, step, workspace.out, kind=kind, role=step.name)
        if artifact_id is None:
            raise LeaseLostError
        return artifact_id

    try:
        artifact_id = _insist(publish, lease=lease)
    except FusionError as error:
        failure = error.to_dict()
        _insist(lambda: _write(worker, step, jobs.fail_step, error=failure), lease=lease)
        return
    _insist(
        lambda: _write(worker, step, jobs.complete_step, artifact_id=artifact_id, figures=figures),
        lease=lease,
    )


def _write(worker: Worker, step: ClaimedStep, function: Callable[..., bool], **values: object) -> None:
    """One guarded write in a transaction of its own."""
    moved = in_transaction(worker.engine, function, step_id=step.step_id, attempt=step.attempt, **values)
    if not moved:
        raise LeaseLostError


def _insist(function: Callable[[], ResultT], *, lease: Lease) -> ResultT:
    """Repeat a write while the database cannot be reached and the lease may still be ours."""
    while True:
        try:
            return function()
        except DBAPIError as error:
            if lease.instruction is Instruction.LOST:
                raise LeaseLostError from error
            log.warning("database_unreachable", error=str(error))
            time.sleep(RETRY_SECONDS)


def _reason(outcome: Outcome) -> str | None:
    match outcome:
        case Failed(error=error):
            return error["code"]
        case Stopped(stop=stop):
            return stop.value
        case _:
            return None
