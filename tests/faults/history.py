"""Checks what the service remembers against what it promised, and against what its clients were told.

The history decides, not only the result: a deterministic stage gives the same bytes in a stale attempt, so an
output also names the attempt that wrote it, and the order of events tells whether that attempt had ended.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, select

from app.db.models import Artifact, ArtifactFile, Attempt, Event, Job, Model, Step, StepNeed
from app.db.session import read_only
from app.storage.digests import pieces_sha256
from app.storage.store import ObjectStore, blob_key
from fusion.spec import FusionSpec
from tests.faults.hash_chain import ATTEMPT_NAME, CHAIN_NAME, NUM_SAMPLES, expected_chains, expected_part

FINISHED = ("succeeded", "failed", "cancelled")
_ENDINGS = {
    "step_succeeded": "succeeded",
    "step_requeued": "requeued",
    "step_failed": "failed",
    "step_cancelled": "cancelled",
}


@dataclass(kw_only=True, slots=True)
class ClientLog:
    """What clients sent and were told. `told` maps an idempotency key to the job ids it was answered with."""

    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sent: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    num_requests: int = 0
    num_retries: int = 0
    num_refused: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True, slots=True)
class Verdict:
    """Violations by kind (`lost`, `double`, `wrong`, `unfinished`), and how much was looked at."""

    violations: list[tuple[str, str]] = field(default_factory=list)
    num_jobs: int = 0
    num_steps: int = 0
    num_attempts: int = 0
    num_lost_attempts: int = 0

    def add(self, kind: str, text: str) -> None:
        self.violations.append((kind, text))

    def num(self, kind: str) -> int:
        return sum(one == kind for one, _ in self.violations)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """Everything the checks read, in one consistent look."""

    jobs: dict[str, Job]
    steps: dict[str, Step]
    attempts: dict[str, list[Attempt]]
    events: dict[str, list[Event]]
    artifacts: dict[str, list[Artifact]]
    files: dict[str, list[ArtifactFile]]
    needs: dict[str, list[str]]
    models: list[Model]


def check_history(engine: Engine, store: ObjectStore, log: ClientLog) -> Verdict:
    """Every promise that a finished run can be held to."""
    rows = _read(engine)
    verdict = Verdict(
        num_jobs=len(rows.jobs),
        num_steps=len(rows.steps),
        num_attempts=sum(len(attempts) for attempts in rows.attempts.values()),
        num_lost_attempts=sum(one.outcome == "lost" for many in rows.attempts.values() for one in many),
    )
    _check_clients(rows, log, verdict)
    for job in rows.jobs.values():
        _check_events(job, rows.events[job.id], verdict)
        _check_job(job, [step for step in rows.steps.values() if step.job_id == job.id], rows, log, verdict)
    for step in rows.steps.values():
        _check_attempts(step, rows.attempts[step.id], verdict)
        _check_order(step, rows, verdict)
    for job in rows.jobs.values():
        _check_bytes(job, rows, store, verdict)
    for job_id, num in Counter(model.job_id for model in rows.models).items():
        if num > 1:
            verdict.add("double", f"{job_id} has {num} models")
    return verdict


def _check_clients(rows: _Rows, log: ClientLog, verdict: Verdict) -> None:
    told = {job_id for ids in log.told.values() for job_id in ids}
    for job_id in sorted(told - rows.jobs.keys()):
        verdict.add("lost", f"{job_id} was acknowledged and is gone")
    for key, ids in log.told.items():
        if len(ids) > 1:
            verdict.add("double", f"key {key} was answered with {sorted(ids)}")
    names = Counter(job.name for job in rows.jobs.values())
    for name in sorted(name for name, num in names.items() if num > 1 and name in log.sent):
        verdict.add("double", f"one request made {names[name]} jobs named {name}")


def _check_events(job: Job, events: Sequence[Event], verdict: Verdict) -> None:
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        verdict.add("lost", f"{job.id}: events are numbered {[event.seq for event in events]}")


def _check_job(job: Job, steps: list[Step], rows: _Rows, log: ClientLog, verdict: Verdict) -> None:
    if job.status not in FINISHED:
        states = {step.name: step.status for step in steps if step.status not in FINISHED}
        verdict.add("unfinished", f"{job.id} is {job.status}: {states}")
    elif job.status == "cancelled" and job.name not in log.cancelled:
        verdict.add("wrong", f"{job.id} is cancelled and nobody asked for it")
    elif job.status == "succeeded" and any(step.status != "succeeded" for step in steps):
        verdict.add("wrong", f"{job.id} succeeded without all of its steps")
    elif job.status == "failed":
        _check_failure(job, steps, rows, verdict)


def _check_failure(job: Job, steps: list[Step], rows: _Rows, verdict: Verdict) -> None:
    """A job may fail of faults only when a budget is spent, and must say so."""
    failed = [step for step in steps if step.status == "failed"]
    if not failed or job.error is None or not job.error.get("hint"):
        verdict.add("wrong", f"{job.id} failed without a reason or a way out")
    for step in failed:
        spent = [one for one in rows.attempts[step.id] if one.attempt > step.forgiven_attempts]
        if len(spent) < 3 and (step.error or {}).get("category") != "user":
            verdict.add("wrong", f"{step.id} failed after {len(spent)} attempts that count: {step.error}")


def _check_attempts(step: Step, attempts: list[Attempt], verdict: Verdict) -> None:
    numbers = [one.attempt for one in attempts]
    if numbers != list(range(1, step.attempt + 1)):
        verdict.add("lost", f"{step.id}: attempts {numbers}, the step is at {step.attempt}")
    succeeded = [one.attempt for one in attempts if one.outcome == "succeeded"]
    if len(succeeded) > 1:
        verdict.add("double", f"{step.id} succeeded in attempts {succeeded}")
    if (step.status == "succeeded") != bool(succeeded):
        verdict.add("wrong", f"{step.id} is {step.status}, attempts that succeeded: {succeeded}")
    if step.status in FINISHED and any(one.outcome == "running" for one in attempts):
        verdict.add("wrong", f"{step.id} is {step.status} and an attempt still runs")


def _check_order(step: Step, rows: _Rows, verdict: Verdict) -> None:
    """By the events: one attempt after another, nothing of an ended one, needs first."""
    events = rows.events[step.job_id]
    ended: set[int] = set()
    begun = 0
    for event in (event for event in events if event.step_id == step.id):
        number = event.attempt or 0
        if event.type == "step_started":
            begun += 1
            if number != begun or (begun > 1 and begun - 1 not in ended):
                verdict.add("double", f"{step.id}: attempt {number} began as number {begun}, ended: {ended}")
            _check_needs(step, event, rows, verdict)
        elif event.type in _ENDINGS and number:
            if number in ended:
                verdict.add("wrong", f"{step.id}: {event.type} of attempt {number}, which had ended")
            ended.add(number)
        elif event.type == "note" and number in ended:
            verdict.add("wrong", f"{step.id}: a note of attempt {number}, which had ended")


def _check_needs(step: Step, started: Event, rows: _Rows, verdict: Verdict) -> None:
    done = {
        event.step_id
        for event in rows.events[step.job_id]
        if event.type == "step_succeeded" and event.seq < started.seq
    }
    for needed in rows.needs[step.id]:
        if needed not in done:
            verdict.add("wrong", f"{step.id} started before {needed} had succeeded")


def _check_bytes(job: Job, rows: _Rows, store: ObjectStore, verdict: Verdict) -> None:
    """Outputs and parts: whole, of the attempt that counts, with the hashes of an undisturbed run."""
    spec = FusionSpec.model_validate(job.spec)
    chains = expected_chains(spec)
    for step in (step for step in rows.steps.values() if step.job_id == job.id):
        outputs = [one for one in rows.artifacts[step.id] if one.kind in ("output", "model")]
        if (step.status == "succeeded") != (len(outputs) == 1):
            verdict.add(
                "double" if outputs else "lost", f"{step.id} is {step.status}: {len(outputs)} outputs"
            )
        for artifact in rows.artifacts[step.id]:
            if artifact.kind == "log":
                continue
            contents = _contents(artifact, rows.files[artifact.id], store, verdict)
            done = contents.get(CHAIN_NAME, {}).get("done")
            found = contents.get(CHAIN_NAME, {}).get("chain")
            if done is None:
                continue
            wanted = chains[step.name] if done == NUM_SAMPLES else expected_part(spec, step.name, done=done)
            if found != wanted:
                verdict.add(
                    "wrong", f"{artifact.id} of {step.id}: its hash is not that of an undisturbed run"
                )
            if artifact.kind != "checkpoint":
                _check_author(step, artifact, contents.get(ATTEMPT_NAME, {}), rows, verdict)


def _check_author(
    step: Step, artifact: Artifact, written_by: dict[str, Any], rows: _Rows, verdict: Verdict
) -> None:
    succeeded = [one.attempt for one in rows.attempts[step.id] if one.outcome == "succeeded"]
    authors = {artifact.attempt, written_by.get("attempt"), *succeeded}
    if step.artifact_id != artifact.id or written_by.get("step_id") != step.id or len(authors) != 1:
        verdict.add(
            "wrong",
            f"{step.id}: attempt {succeeded} succeeded, {artifact.id} is of attempt {artifact.attempt} and "
            f"its bytes are of {written_by}",
        )


def _contents(
    artifact: Artifact, files: Iterable[ArtifactFile], store: ObjectStore, verdict: Verdict
) -> dict[str, dict[str, Any]]:
    found = {}
    for file in files:
        key = blob_key(project_id=file.project_id, sha256=file.sha256)
        if store.size(key) != file.num_bytes:
            verdict.add("lost", f"{artifact.id}: {file.path} is not stored in its full size")
            continue
        data = b"".join(store.open_range(key, start=0, end=file.num_bytes))
        if pieces_sha256([data]) != file.sha256:
            verdict.add("wrong", f"{artifact.id}: {file.path} holds other bytes than were stored")
            continue
        found[file.path] = json.loads(data)
    return found


def _read(engine: Engine) -> _Rows:
    with read_only(engine) as session:
        attempts, events = defaultdict(list), defaultdict(list)
        artifacts, files, needs = defaultdict(list), defaultdict(list), defaultdict(list)
        for attempt in session.scalars(select(Attempt).order_by(Attempt.step_id, Attempt.attempt)):
            attempts[attempt.step_id].append(attempt)
        for event in session.scalars(select(Event).order_by(Event.job_id, Event.seq)):
            events[event.job_id].append(event)
        for artifact in session.scalars(select(Artifact)):
            artifacts[artifact.step_id or ""].append(artifact)
        for file in session.scalars(select(ArtifactFile)):
            files[file.artifact_id].append(file)
        for need in session.scalars(select(StepNeed)):
            needs[need.step_id].append(need.needed_step_id)
        return _Rows(
            jobs={job.id: job for job in session.scalars(select(Job))},
            steps={step.id: step for step in session.scalars(select(Step))},
            attempts=attempts,
            events=events,
            artifacts=artifacts,
            files=files,
            needs=needs,
            models=list(session.scalars(select(Model).where(Model.job_id.is_not(None)))),
        )
