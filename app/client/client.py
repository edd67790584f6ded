"""The service's REST interface as Python calls."""

import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

import httpx2

from app.client.administration import Administration
from app.client.calls import PAGE_SIZE
from app.client.files import Files
from app.client.following import Following
from app.client.publications import Publications
from app.client.recipes import Recipes
from app.client.resources.jobs import Attempt, Estimate, Job
from app.client.results import Results
from app.client.transport import Transport
from app.client.webhooks import Webhooks
from fusion.spec import FusionSpec

USER_AGENT = "fusion-client/1"
SpecLike = FusionSpec | Mapping[str, Any]


class FusionClient(Administration, Files, Following, Publications, Recipes, Results, Webhooks):
    """One service, one API key.

    Requests that may be sent twice are retried with growing pauses; refusals raise `ApiError` and its kin.

        with FusionClient("http://127.0.0.1:8000", api_key=key) as client:
            job = client.submit(load_spec(Path("spec.yaml")))
            for update in client.watch(job.id):
                print(update.job.status)
            client.download_model(job.id, Path("fused"))
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        project_id: str | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`project_id`: for which project to act, where the key is an operator's."""
        super().__init__(
            Transport(
                base_url, api_key=api_key, user_agent=USER_AGENT, project_id=project_id, transport=transport
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Jobs

    def submit(
        self, spec: SpecLike, *, idempotency_key: str | None = None, priority: int | None = None
    ) -> Job:
        """Submit a job. A lost answer is asked for again under the same key, so it never runs twice."""
        return self._submit("/v1/jobs", _as_json(spec), key=idempotency_key, priority=priority)

    def clone(
        self,
        job_id: str,
        overrides: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        priority: int | None = None,
    ) -> Job:
        """Submit the spec of a job again, with the fields of a partial spec changed; the new job."""
        path = f"/v1/jobs/{job_id}/clone"
        return self._submit(path, dict(overrides or {}), key=idempotency_key, priority=priority)

    def validate(self, spec: SpecLike) -> dict[str, Any]:
        """Check a spec without submitting it; raises what `submit` would raise."""
        answer: dict[str, Any] = self._transport.request(
            "POST", "/v1/jobs/validate", json=_as_json(spec), repeatable=True
        )
        return answer

    def estimate(self, spec: SpecLike) -> Estimate:
        """What a spec would take: tokens, hours, memory, disk."""
        answer = self._transport.request("POST", "/v1/jobs/estimate", json=_as_json(spec), repeatable=True)
        return Estimate.model_validate(answer)

    def list_jobs(self, *, status: str | None = None, limit: int = 20) -> list[Job]:
        """The newest jobs first."""
        params = {"status": status, "limit": min(limit, PAGE_SIZE), "order": "desc"}
        return self._list("/v1/jobs", Job, params=params, at_most=limit)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Every try at every step, in the order of the plan."""
        return self._whole_list(f"/v1/jobs/{job_id}/attempts", Attempt)

    def cancel(self, job_id: str) -> Job:
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Hold a job where it is; what runs stores what it can first."""
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        return self._act(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        return self._act(job_id, "retry")

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Change which of the project's jobs goes first: the higher one."""
        return Job.model_validate(
            self._transport.request(
                "PATCH", f"/v1/jobs/{job_id}", json={"priority": priority}, repeatable=True
            )
        )

    def spec_schema(self) -> dict[str, Any]:
        """JSON Schema of the spec as this service understands it."""
        schema: dict[str, Any] = self._transport.request("GET", "/v1/schemas/fusion-spec")
        return schema

    def _submit(self, path: str, body: dict[str, Any], *, key: str | None, priority: int | None) -> Job:
        answer = self._transport.request(
            "POST",
            path,
            json=body,
            params={"priority": priority},
            headers={"idempotency-key": key or uuid.uuid4().hex},
            repeatable=True,
        )
        return Job.model_validate(answer)

    def _act(self, job_id: str, action: Literal["cancel", "pause", "resume", "retry"]) -> Job:
        # All but a retry ask for a state rather than for a change, so asking twice is harmless.
        return Job.model_validate(
            self._transport.request("POST", f"/v1/jobs/{job_id}/{action}", repeatable=action != "retry")
        )


def _as_json(spec: SpecLike) -> dict[str, Any]:
    return spec.model_dump(mode="json") if isinstance(spec, FusionSpec) else dict(spec)
