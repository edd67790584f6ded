"""Users, workers and the reconciler call in any order, also with attempts that are long over.

After every call the database must be one that the rules allow; the triggers must never have had to fire.
"""

import os
from collections import defaultdict
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select

from app.db.base import new_id
from app.db.models import Attempt, Event, Job, Step
from app.db.session import in_transaction, read_only
from app.errors import Conflict
from app.jobs import service
from app.jobs.lifecycle import FINISHED_JOBS, Desired, Instruction, JobStatus, StepStatus, job_status
from fusion.errors import CapacityError, CorpusInvalid, InfrastructureError, InternalError
from tests.app.jobs import builders as given

NUM_EXAMPLES = int(os.environ.get("FUSION_TEST_EXAMPLES", "8"))
NUM_CALLS = int(os.environ.get("FUSION_TEST_CALLS", "40"))
"""Set both higher for a long run."""

ERRORS = [
    CorpusInvalid("line 3 is not JSON", code="json_broken").to_dict(),
    CapacityError("out of memory", code="out_of_memory").to_dict(),
    InfrastructureError("429", code="hub_unreachable", retry_after_seconds=30).to_dict(),
    InternalError("KeyError", code="internal", fingerprint="a").to_dict(),
    InternalError("ValueError", code="internal", fingerprint="b").to_dict(),
]
KILLED = InfrastructureError("killed", code="stage_killed").to_dict()
FINISHED_STEPS = {StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED}
ACTIONS = ["cancel", *2 * ["pause", "resume", "retry"]]
picks = st.integers(min_value=0, max_value=1 << 16)


class Calls(RuleBasedStateMachine):
    """`holders` maps each step to the attempt that may write for it: what the fence must agree with."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.project_id = given.make_project(self.engine, name=new_id("proj"))
        self.job_ids: list[str] = []
        self.claims: list[service.ClaimedStep] = []
        self.holders: dict[str, int | None] = {}
        self.finished_steps: dict[str, tuple[Any, ...]] = {}
        self.finished_jobs: dict[str, tuple[Any, ...]] = {}
        self.history: dict[str, list[str]] = {}

    @precondition(lambda self: len(self.job_ids) < 3)
    @rule()
    def submit(self) -> None:
        self.job_ids.append(given.submit(self.engine, self.project_id).id)

    @rule()
    def claim(self) -> None:
        step = given.try_claim(self.engine)
        if step is not None:
            assert self.holders.get(step.step_id) is None, "claimed while somebody has it"
            self.claims.append(step)
            self.holders[step.step_id] = step.attempt

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def heartbeat(self, pick: int) -> None:
        _, fence, is_current = self._attempt(pick)
        heard = in_transaction(self.engine, service.heartbeat, **fence, lease_seconds=60)
        assert (heard is not Instruction.LOST) is is_current

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def complete(self, pick: int) -> None:
        step, fence, is_current = self._attempt(pick)
        values = (
            {"artifact_id": "art-1", "figures": {}}
            if step.stage != "publish"
            else {
                "artifact_id": given.store_artifact(self.engine, step, kind="model", role=step.name),
                "figures": {},
            }
        )
        self._end(step, is_current, in_transaction(self.engine, service.complete_step, **fence, **values))

    @precondition(lambda self: self.claims)
    @rule(pick=picks, error=st.sampled_from(ERRORS))
    def fail(self, pick: int, error: Any) -> None:
        step, fence, is_current = self._attempt(pick)
        self._end(step, is_current, in_transaction(self.engine, service.fail_step, **fence, error=error))

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def die(self, pick: int) -> None:
        step, fence, is_current = self._attempt(pick)
        self._end(step, is_current, in_transaction(self.engine, service.lose_step, **fence, error=KILLED))

    @precondition(lambda self: self.claims)
    @rule(pick=picks, reason=st.sampled_from(["pause", "drain"]))
    def release(self, pick: int, reason: str) -> None:
        step, fence, is_current = self._attempt(pick)
        before = given.step_now(self.engine, step.step_id)
        self._end(step, is_current, in_transaction(self.engine, service.release_step, **fence, reason=reason))
        after = given.step_now(self.engine, step.step_id)
        assert (after.num_errors, after.num_losses) == (before.num_errors, before.num_losses)

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def confirm_cancelled(self, pick: int) -> None:
        step, fence, is_current = self._attempt(pick)
        heard = in_transaction(self.engine, service.heartbeat, **fence, lease_seconds=60)
        if heard in (Instruction.CANCEL, Instruction.LOST):
            self._end(step, is_current, in_transaction(self.engine, service.confirm_cancelled, **fence))

    @precondition(lambda self: any(self.holders.values()))
    @rule(pick=picks)
    def store_part(self, pick: int) -> None:
        step, _, is_current = self._attempt(pick)
        if is_current:
            given.store_artifact(self.engine, step, kind="checkpoint", role=f"part-{pick % 3}")

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def fall_silent(self, pick: int) -> None:
        step, _, is_current = self._attempt(pick)
        if is_current:
            given.expire_lease(self.engine, step.step_id)
            in_transaction(self.engine, service.reconcile)
            self.holders[step.step_id] = None

    @precondition(lambda self: self.job_ids)
    @rule(
        pick=picks, action=st.sampled_from(["cancel", "pause", "pause", "resume", "resume", "retry", "retry"])
    )
    def ask(self, pick: int, action: str) -> None:
        job_id = self.job_ids[pick % len(self.job_ids)]
        acts = {
            "cancel": service.request_cancel,
            "pause": service.request_pause,
            "resume": service.request_resume,
            "retry": service.retry,
        }
        was = given.job_now(self.engine, job_id).status
        try:
            in_transaction(self.engine, acts[action], project_id=self.project_id, job_id=job_id)
        except Conflict:
            assert was in FINISHED_JOBS or was == JobStatus.CANCELLING or action == "retry"
            return
        if action == "retry":
            assert was == JobStatus.FAILED
            self.finished_jobs.pop(job_id)
            steps = given.step_ids(self.engine, job_id, without="succeeded")
            for step_id in steps:
                self.finished_steps.pop(step_id, None)

    @precondition(lambda self: self.job_ids)
    @rule(pick=picks, priority=st.integers(min_value=-10, max_value=10))
    def prioritise(self, pick: int, priority: int) -> None:
        job_id = self.job_ids[pick % len(self.job_ids)]
        ids = {"project_id": self.project_id, "job_id": job_id}
        was = given.job_now(self.engine, job_id).status
        try:
            in_transaction(self.engine, service.set_priority, **ids, priority=priority)
        except Conflict:
            assert was in FINISHED_JOBS or was == JobStatus.CANCELLING

    @rule()
    def wait_out_every_back_off(self) -> None:
        given.make_ready_now(self.engine)

    @invariant()
    def the_database_is_one_that_the_rules_allow(self) -> None:
        with read_only(self.engine) as session:
            jobs = list(session.scalars(select(Job).where(Job.id.in_(self.job_ids))))
            steps = list(session.scalars(select(Step).where(Step.job_id.in_(self.job_ids))))
            attempts = list(session.scalars(select(Attempt).where(Attempt.job_id.in_(self.job_ids))))
            events = list(
                session.scalars(
                    select(Event).where(Event.job_id.in_(self.job_ids)).order_by(Event.job_id, Event.seq)
                )
            )
        self._check_attempts(steps, attempts)
        self._check_jobs(jobs, steps)
        self._check_what_is_finished(jobs, steps)
        self._check_history(events)

    def teardown(self) -> None:
        """Leave nothing that another example could claim."""
        for job_id in self.job_ids:
            in_transaction(self.engine, service.request_cancel, project_id=self.project_id, job_id=job_id)
        for step_id, attempt in self.holders.items():
            if attempt is not None:
                in_transaction(self.engine, service.confirm_cancelled, step_id=step_id, attempt=attempt)

    def _attempt(self, pick: int) -> tuple[service.ClaimedStep, dict[str, Any], bool]:
        """Any attempt that ever was, its fence, and whether it may still write."""
        step = self.claims[-1 - pick % min(len(self.claims), 6)]
        fence = {"step_id": step.step_id, "attempt": step.attempt}
        return step, fence, self.holders[step.step_id] == step.attempt

    def _end(self, step: service.ClaimedStep, is_current: bool, accepted: bool) -> None:
        assert accepted is is_current, "the fence"
        if is_current:
            self.holders[step.step_id] = None

    def _check_attempts(self, steps: list[Step], attempts: list[Attempt]) -> None:
        of_step: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in sorted(attempts, key=lambda one: one.attempt):
            of_step[attempt.step_id].append(attempt)
        for step in steps:
            mine = of_step[step.id]
            running = [one.attempt for one in mine if one.outcome == "running"]
            assert [one.attempt for one in mine] == list(range(1, step.attempt + 1))
            assert running == ([step.attempt] if step.status == StepStatus.RUNNING else [])
            assert self.holders.get(step.id) == (running[0] if running else None)

    def _check_jobs(self, jobs: list[Job], steps: list[Step]) -> None:
        for job in jobs:
            mine = [step for step in steps if step.job_id == job.id]
            expected = job_status([StepStatus(step.status) for step in mine], Desired(job.desired))
            assert job.status == expected
            assert (job.finished_at is not None) is (expected in FINISHED_JOBS)
            for step in mine:
                held = step.status == StepStatus.QUEUED and step.ready_at is None
                assert not held or job.desired == Desired.PAUSE
                assert step.claim_rank == -job.priority or step.status in FINISHED_STEPS

    def _check_what_is_finished(self, jobs: list[Job], steps: list[Step]) -> None:
        for step in steps:
            if step.status in FINISHED_STEPS:
                now = (step.status, step.attempt, step.artifact_id, step.finished_at, step.num_losses)
                assert self.finished_steps.setdefault(step.id, now) == now
            else:
                assert step.id not in self.finished_steps
        for job in jobs:
            if job.status in FINISHED_JOBS:
                now = (job.status, job.desired, job.error, job.finished_at)
                assert self.finished_jobs.setdefault(job.id, now) == now
            else:
                assert job.id not in self.finished_jobs

    def _check_history(self, events: list[Event]) -> None:
        now: dict[str, list[str]] = defaultdict(list)
        for event in events:
            now[event.job_id].append(event.id)
            assert event.seq == len(now[event.job_id])
        for job_id, before in self.history.items():
            assert now[job_id][: len(before)] == before
        self.history = now


def test_no_order_of_calls_breaks_a_rule(engine: Engine) -> None:
    machine = type("CallsOnThisDatabase", (Calls,), {"engine": engine})
    patient = settings(
        max_examples=NUM_EXAMPLES,
        stateful_step_count=NUM_CALLS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=patient)
