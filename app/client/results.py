"""Calls about what jobs made: models, artifacts, and their bytes."""

import time
from pathlib import Path

from app.client.calls import PAGE_SIZE, Calls
from app.client.download import OnProgress, download_artifact
from app.client.errors import NotFoundError, PromotionFailedError
from app.client.resources.jobs import Job
from app.client.resources.results import Artifact, Checkpoint, Model, Promotion


class Results(Calls):
    """What users take home."""

    def models(
        self,
        *,
        job_id: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[Model]:
        """The newest first; all of them where no limit is given."""
        params = {"job_id": job_id, "kind": kind, "name": name}
        if limit is not None:
            params["limit"] = str(min(limit, PAGE_SIZE))
        return self._list("/v1/models", Model, params=params, at_most=limit)

    def get_model(self, model_id: str) -> Model:
        return Model.model_validate(self._transport.request("GET", f"/v1/models/{model_id}"))

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Those that are there, the oldest first."""
        return self._whole_list(f"/v1/jobs/{job_id}/checkpoints", Checkpoint)

    def promote(self, checkpoint_id: str, *, name: str | None = None, poll_seconds: float = 1.0) -> Model:
        """Make a model of a checkpoint and wait for it; the same one when it was done before.

        Raises:
            PromotionFailedError: no model could be made of it.
        """
        promotion = self.ask_promotion(checkpoint_id, name=name)
        while not promotion.is_finished:
            time.sleep(poll_seconds)
            promotion = self.get_promotion(checkpoint_id)
        if promotion.model_id is None:
            error = promotion.error or {}
            raise PromotionFailedError(error.get("message", "no model was made"), hint=error.get("hint"))
        return self.get_model(promotion.model_id)

    def ask_promotion(self, checkpoint_id: str, *, name: str | None = None) -> Promotion:
        """Have a model made of a checkpoint; `get_promotion` tells how far that is."""
        wanted = {} if name is None else {"name": name}
        # Safe to send again: a second request gives the first one's promotion.
        answer = self._transport.request(
            "POST", f"/v1/checkpoints/{checkpoint_id}/promote", json=wanted, repeatable=True
        )
        return Promotion.model_validate(answer)

    def get_promotion(self, checkpoint_id: str) -> Promotion:
        answer = self._transport.request("GET", f"/v1/checkpoints/{checkpoint_id}/promotion")
        return Promotion.model_validate(answer)

    def artifacts(self, *, job_id: str) -> list[Artifact]:
        return self._list("/v1/artifacts", Artifact, params={"job_id": job_id})

    def get_artifact(self, artifact_id: str) -> Artifact:
        """One artifact with the list of its files."""
        return Artifact.model_validate(self._transport.request("GET", f"/v1/artifacts/{artifact_id}"))

    def download_model(
        self, model_or_job_id: str, into: Path, *, parallel: int = 4, on_progress: OnProgress | None = None
    ) -> Path:
        """Download a fused checkpoint, given its model id or the id of the job that made it.

        Interrupted downloads continue where they stopped when called again.
        """
        if model_or_job_id.startswith("job-"):
            model = self._model_of_job(model_or_job_id)
        else:
            model = self.get_model(model_or_job_id)
        if model.artifact_id is None:
            raise NotFoundError(
                f"{model.id} has no files in this service", status=404, code="model_has_no_artifact"
            )
        return self.download_artifact(model.artifact_id, into, parallel=parallel, on_progress=on_progress)

    def download_artifact(
        self, artifact_id: str, into: Path, *, parallel: int = 4, on_progress: OnProgress | None = None
    ) -> Path:
        """Download all files of an artifact and verify them."""
        artifact = self.get_artifact(artifact_id)
        return download_artifact(self._transport, artifact, into, parallel=parallel, on_progress=on_progress)

    def _model_of_job(self, job_id: str) -> Model:
        found = [model for model in self.models(job_id=job_id) if model.checkpoint_id is None]
        if found:
            return found[0]
        job = Job.model_validate(self._transport.request("GET", f"/v1/jobs/{job_id}"))
        raise NotFoundError(
            f"{job_id} is {job.status} and has no model",
            status=404,
            code="job_has_no_model",
            hint="a model appears when the job has succeeded: `fusion watch` shows how far it is",
        )
