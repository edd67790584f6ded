"""`/v1/audit_events`: who asked for which change in the project."""

from typing import Annotated

from fastapi import Query
from sqlalchemy import select

from app.accounts.dependencies import CurrentPrincipal
from app.audit.recording import Outcome
from app.audit.schemas import AuditEventObject
from app.db.dependencies import ReadSession
from app.db.models import AuditEvent
from app.errors import Forbidden, Unauthorized, Unprocessable, problem_responses
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router

router = Router(
    prefix="/v1/audit_events", tags=["Audit"], responses=problem_responses(Unauthorized, Forbidden)
)


@router.get("", responses=problem_responses(Unprocessable))
def list_audit_events(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: Paging,
    action: Annotated[str | None, Query(max_length=100, examples=["submit_job"])] = None,
    object_id: Annotated[str | None, Query(max_length=100, description="What was changed.")] = None,
    key_id: Annotated[str | None, Query(max_length=40, description="Who asked.")] = None,
    outcome: Outcome | None = None,
) -> ListOf[AuditEventObject]:
    """Requests that asked for a change, the newest first."""
    query = select(AuditEvent).where(AuditEvent.project_id == principal.project_id)
    wanted = {
        AuditEvent.action: action,
        AuditEvent.object_id: object_id,
        AuditEvent.key_id: key_id,
        AuditEvent.outcome: outcome,
    }
    query = query.where(*(column == value for column, value in wanted.items() if value is not None))
    events, has_more = page_of_rows(session, query, id_column=AuditEvent.id, page=page)
    return ListOf[AuditEventObject](
        **list_of([AuditEventObject.of(event) for event in events], has_more=has_more)
    )
