"""A job that runs to its end without a model: curves, tokens, checkpoints and a registered result."""

from sqlalchemy import Engine

from app.catalog.models import register_fused_model
from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given

NUM_TOKENS = 4000
"""Of each training."""


def run_to_end(engine: Engine, job_id: str) -> None:
    """Claim and complete everything of a job, and of others that come in between."""
    while given.job_now(engine, job_id).status not in ("succeeded", "failed", "cancelled"):
        step = given.claim(engine)
        if step.stage == "train":
            _train(engine, step)
        if step.stage == "publish":
            artifact_id = given.store_artifact(engine, step, kind="model", role="publish")
            in_transaction(
                engine,
                register_fused_model,
                project_id=step.project_id,
                job_id=step.job_id,
                artifact_id=artifact_id,
                name="fused",
            )
        given.complete(engine, step)


def _train(engine: Engine, step: service.ClaimedStep) -> None:
    fence = {"step_id": step.step_id, "attempt": step.attempt}
    points = [(2, {"loss": 3.0, "grad_norm": 1.5}), (4, {"loss": 2.0, "grad_norm": float("nan")})]
    in_transaction(engine, service.record_metrics, **fence, points=points)
    in_transaction(engine, service.record_progress, **fence, done=4, total=4, unit="steps", tokens=NUM_TOKENS)
    meta = {"step": 2, "metrics": {"loss": 3.0}}
    given.store_artifact(engine, step, kind="checkpoint", role="checkpoints/step-00000002", meta=meta)
