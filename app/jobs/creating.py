"""Making a job for a request: once, also when its client lost the answer and asks again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.dependencies import CurrentPrincipal
from app.accounts.service import Principal
from app.db.models import Job
from app.idempotency import REPLAYED_HEADER, Answer, Repeatable, RepeatableRequest
from app.jobs import queries, service
from app.jobs.estimates.actual import keep_estimate
from app.jobs.estimates.estimate import estimate_job
from app.jobs.labels import Labels
from app.jobs.spec_checks import check_spec
from app.preconditions import entity_tag
from app.settings import Settings
from fusion.spec import FusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """A request for a new job. `is_repetition`: its client says that it sends it again, without a key."""

    principal: Principal
    asked: RepeatableRequest
    is_repetition: bool
    allowed_roots: tuple[Path, ...]

    def check(self, session: Session, spec: FusionSpec) -> None:
        """Refuse a spec that points at something it may not or cannot."""
        check_spec(session, spec, project_id=self.principal.project_id, allowed_roots=self.allowed_roots)

    def make(
        self,
        session: Session,
        spec: FusionSpec,
        *,
        priority: int,
        labels: Labels,
        cloned_from: Job | None = None,
    ) -> Answer:
        """The new job as the native API answers, or the one that an earlier try of the same request made."""
        made = self.find_or_submit(session, spec, priority=priority, labels=labels, cloned_from=cloned_from)
        (shown,) = queries.show_jobs(session, [made.job])
        return made.answer(shown, path=f"/v1/jobs/{shown.id}", version=shown.version)

    def find_or_submit(
        self,
        session: Session,
        spec: FusionSpec,
        *,
        labels: Labels,
        priority: int = 0,
        cloned_from: Job | None = None,
        openai_request: dict[str, Any] | None = None,
    ) -> "MadeJob":
        """The new job, or the one that an earlier try of the same request made."""
        self.check(session, spec)
        if self.asked.key is None:
            earlier = service.find_repeated_submission(
                session,
                created_by=self.principal.key_id,
                request_digest=self.asked.digest,
                is_repetition=self.is_repetition,
            )
            if earlier is not None:
                return MadeJob(job=earlier, is_replayed=True)
        estimate = estimate_job(session, spec, project_id=self.principal.project_id)
        job = service.submit(
            session,
            project_id=self.principal.project_id,
            spec=spec,
            created_by=self.principal.key_id,
            priority=priority,
            labels=labels,
            cloned_from=cloned_from,
            request_digest=self.asked.digest,
            openai_request=openai_request,
        )
        keep_estimate(session, job, estimate)
        return MadeJob(job=job, is_replayed=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeJob:
    """What a request for a new job ended in. `is_replayed`: an earlier try of it had made the job."""

    job: Job
    is_replayed: bool

    def answer(self, shown: BaseModel, *, path: str, version: int, status: int = 201) -> Answer:
        """The answer that shows the job; `version` is its number of events by now."""
        headers = {"Location": path, "ETag": entity_tag(version)}
        if self.is_replayed:
            headers[REPLAYED_HEADER] = "true"
        return Answer(body=shown, status=status, headers=headers)


async def _creation(
    request: Request,
    principal: CurrentPrincipal,
    asked: Repeatable,
    # OpenAI's clients send no Idempotency-Key, but they count.
    retry_count: Annotated[str, Header(alias="x-stainless-retry-count", include_in_schema=False)] = "0",
) -> Creation:
    settings: Settings = request.app.state.settings
    return Creation(
        principal=principal,
        asked=asked,
        is_repetition=retry_count.isdecimal() and int(retry_count[:9]) > 0,
        allowed_roots=settings.allowed_roots,
    )


CreationOfRequest = Annotated[Creation, Depends(_creation)]
