"""Links that download one file without a key: signed by the object store, or else by this service."""

import time
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.accounts.dependencies import CurrentPrincipal, pepper_of
from app.artifacts import service
from app.artifacts.downloads import CONTENT_RESPONSES, StoredBytes, download, stored_bytes_of
from app.artifacts.tickets import Ticket, TicketExpired, TicketInvalid
from app.db.dependencies import ReadSession, bind_project, engine_of
from app.db.session import read_only
from app.errors import Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.logs import get_logger
from app.routing import Router
from app.settings import Settings
from app.storage.dependencies import Store

MAX_SECONDS = 3600

router = Router(
    prefix="/v1/artifacts", tags=["Artifacts"], responses=problem_responses(Unauthorized, Forbidden)
)
open_router = Router(prefix="/v1/downloads", tags=["Artifacts"], responses=problem_responses(Forbidden))
log = get_logger(__name__)


class WantedUrl(BaseModel):
    """Which file, and for how long."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"path": "model.safetensors", "expires_in": 600}]},
    )

    path: str | None = None
    """May be left out where there is only one file."""
    expires_in: Annotated[int, Field(ge=60, le=MAX_SECONDS)] = 600
    """Seconds."""


class DownloadUrl(BaseModel):
    """A link to one file. Whoever has it may download, so treat it like a key while it lasts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["download_url"] = "download_url"
    url: str
    method: Literal["GET"] = "GET"
    headers: dict[str, str]
    """To be sent along; none so far. Ranges may be asked for. Send no API key."""
    served_by: Literal["storage", "api"]
    expires_at: int
    path: str
    size: int
    sha256: str
    """Of the bytes; check it, for a store does not."""
    etag: str | None
    """The entity tag that will come with the bytes; null where the store has its own."""


@router.post(
    "/{artifact_id}/download_url", responses=problem_responses(NotFound, Unprocessable), status_code=200
)
def create_download_url(
    principal: CurrentPrincipal,
    session: ReadSession,
    store: Store,
    request: Request,
    artifact_id: str,
    wanted: WantedUrl,
) -> DownloadUrl:
    """Make a link to one file that needs no key and works for a while."""
    settings: Settings = request.app.state.settings
    artifact = service.get_artifact(session, project_id=principal.project_id, artifact_id=artifact_id)
    file = service.get_artifact_file(session, artifact, wanted.path)
    stored = stored_bytes_of(file)
    expires_at = int(time.time()) + wanted.expires_in
    url = (
        store.signed_url(stored.key, seconds=wanted.expires_in) if settings.download_mode == "auto" else None
    )
    log.info("download_url_made", artifact_id=artifact_id, path=file.path, key_id=principal.key_id)
    if url is None:
        ticket = Ticket(
            project_id=principal.project_id,
            artifact_id=artifact.id,
            path=file.path,
            expires_at=expires_at,
        )
        base = settings.public_url or str(request.base_url)
        signed = ticket.signed(pepper=pepper_of(request))
        url = f"{base.rstrip('/')}{open_router.prefix}?ticket={quote(signed)}"
        return _shown(stored, url, path=file.path, served_by="api", expires_at=expires_at)
    return _shown(stored, url, path=file.path, served_by="storage", expires_at=expires_at)


def _shown(
    stored: StoredBytes, url: str, *, path: str, served_by: Literal["storage", "api"], expires_at: int
) -> DownloadUrl:
    return DownloadUrl(
        url=url,
        headers={},
        served_by=served_by,
        expires_at=expires_at,
        path=path,
        size=stored.size,
        sha256=stored.sha256,
        etag=stored.etag if served_by == "api" else None,
    )


@open_router.head("", include_in_schema=False)
@open_router.get("", response_class=Response, responses=CONTENT_RESPONSES)
def download_with_ticket(
    store: Store,
    request: Request,
    ticket: Annotated[str, Query(max_length=2000, description="From a `download_url`.")] = "",
) -> Response:
    """Bytes of one file, for whoever holds a link that this service signed."""
    try:
        found = Ticket.read(ticket, pepper=pepper_of(request))
    except TicketExpired as error:
        raise Forbidden("this link has expired", code="download_url_expired") from error
    except TicketInvalid as error:
        raise Forbidden("this link was not made by this service", code="download_url_invalid") from error
    bind_project(request, found.project_id)
    with read_only(engine_of(request)) as session:
        artifact = service.get_artifact(session, project_id=found.project_id, artifact_id=found.artifact_id)
        stored = stored_bytes_of(service.get_artifact_file(session, artifact, found.path))
    return download(request, store, stored)
