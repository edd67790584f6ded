"""`/v1/uploads`: large files in parts, in OpenAI's shapes; they can be continued after any interruption."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Query, Request, status
from fastapi.concurrency import run_in_threadpool

from app.accounts.dependencies import CurrentPrincipal
from app.catalog import assembling, uploads
from app.catalog import upload_repository as repository
from app.catalog.assembling import Promise
from app.catalog.file_endpoints import NO_STATIC_LIMIT
from app.catalog.files import Wanted
from app.catalog.names import check_filename
from app.catalog.receiving import receive_file
from app.catalog.room import byte_limit
from app.catalog.schemas import CreatedFile
from app.catalog.upload_schemas import (
    CompleteUpload,
    CreateUpload,
    EndedUpload,
    UploadObject,
    UploadPartObject,
    UploadStatus,
    UploadWithParts,
)
from app.db.dependencies import ProjectEngine, ReadSession, WriteSession
from app.db.models import Upload
from app.db.session import in_transaction
from app.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router
from app.settings import Settings
from app.storage.dependencies import Store

router = Router(prefix="/v1/uploads", tags=["Uploads"], responses=problem_responses(Unauthorized, Forbidden))

_PART_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(ContentTooLarge, Unprocessable, TooManyRequests),
)
def create_upload(
    principal: CurrentPrincipal, session: WriteSession, request: Request, wanted: CreateUpload
) -> UploadWithParts:
    """Announce a file; then send its parts, in any order and several at once."""
    settings: Settings = request.app.state.settings
    expires_after = wanted.expires_after
    upload = uploads.begin_upload(
        session,
        wanted=Wanted(
            filename=check_filename(wanted.filename, pointer="/filename"),
            purpose=wanted.purpose,
            expires_after=None if expires_after is None else timedelta(seconds=expires_after.seconds),
        ),
        num_bytes=wanted.bytes,
        mime_type=wanted.mime_type,
        sha256=wanted.sha256,
        principal=principal,
        max_bytes=settings.max_upload_bytes,
        kept_seconds=settings.upload_kept_seconds,
    )
    return UploadWithParts.of(upload, parts=[])


@router.get("")
def list_uploads(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: Paging,
    status: UploadStatus | None = None,
    sha256: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="Uploads that announced this digest.")
    ] = None,
) -> ListOf[UploadObject]:
    """Uploads of the project; ended ones for a week."""
    wanted = repository.select_uploads(project_id=principal.project_id, status=status, sha256=sha256)
    found, has_more = page_of_rows(session, wanted, id_column=Upload.id, page=page)
    return ListOf[UploadObject](**list_of([UploadObject.of(upload) for upload in found], has_more=has_more))


@router.get("/{upload_id}", responses=problem_responses(NotFound))
def get_upload(principal: CurrentPrincipal, session: ReadSession, upload_id: str) -> UploadWithParts:
    """One upload and the parts that are there: whoever continues it sends the others."""
    shown = uploads.show_upload(session, project_id=principal.project_id, upload_id=upload_id)
    return UploadWithParts.of(
        shown.upload, status=shown.status, parts=[UploadPartObject.of(part) for part in shown.parts]
    )


@router.post(
    "/{upload_id}/parts",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=_PART_BODY,
    responses=problem_responses(
        BadRequest, NotFound, Conflict, ContentTooLarge, Unprocessable, TooManyRequests
    ),
    max_body_size=NO_STATIC_LIMIT,
)
async def create_part(
    principal: CurrentPrincipal, engine: ProjectEngine, store: Store, request: Request, upload_id: str
) -> UploadPartObject:
    """Send a part, as a form with the part `data` or as the body itself. The same bytes again are the same
    part."""
    settings: Settings = request.app.state.settings
    # Before the bytes come: nobody should send them in vain.
    await run_in_threadpool(
        in_transaction, engine, uploads.require_pending, project_id=principal.project_id, upload_id=upload_id
    )
    limit = await run_in_threadpool(
        byte_limit, engine, project_id=principal.project_id, max_bytes=settings.max_part_bytes
    )
    async with receive_file(request, folder=settings.uploads_dir, limit=limit, file_field="data") as received:
        part = await run_in_threadpool(
            uploads.add_part,
            engine,
            store,
            received,
            upload_id=upload_id,
            principal=principal,
            kept_seconds=settings.upload_kept_seconds,
        )
    return UploadPartObject.of(part)


@router.post("/{upload_id}/complete", responses=problem_responses(NotFound, Conflict, Unprocessable))
def complete_upload(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    store: Store,
    request: Request,
    upload_id: str,
    promise: CompleteUpload,
) -> EndedUpload:
    """Make a file of the parts, in the order given. A repeated request gets the same file."""
    settings: Settings = request.app.state.settings
    completed = assembling.complete_upload(
        engine,
        store,
        upload_id=upload_id,
        promise=Promise(part_ids=promise.part_ids, md5=promise.md5, sha256=promise.sha256),
        principal=principal,
        folder=settings.uploads_dir,
        max_checked_bytes=settings.max_checked_at_upload_bytes,
    )
    arrival = completed.arrival
    file = None if arrival is None else CreatedFile.of(arrival.file, duplicate_of=arrival.duplicate_of)
    return EndedUpload.of(completed.upload, file=file)


@router.post("/{upload_id}/cancel", responses=problem_responses(NotFound, Conflict))
def cancel_upload(
    principal: CurrentPrincipal, engine: ProjectEngine, store: Store, upload_id: str
) -> EndedUpload:
    """Forget an upload and its parts."""
    shown = uploads.cancel_upload(engine, store, project_id=principal.project_id, upload_id=upload_id)
    return EndedUpload.of(shown.upload, file=None)
