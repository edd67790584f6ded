"""`/v1/files`: corpora and specs, in OpenAI's shapes."""

from typing import Annotated, Any, Final, get_args

from fastapi import Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts.downloads import CONTENT_RESPONSES, StoredBytes, answer_with_bytes, download
from app.catalog import files, repository
from app.catalog.file_form import (
    EXPIRY_ANCHOR,
    EXPIRY_SECONDS,
    MAX_EXPIRY_SECONDS,
    MIN_EXPIRY_SECONDS,
    check_known_fields,
    expiry_of,
    purpose_of,
)
from app.catalog.files import Wanted
from app.catalog.findings import Purpose
from app.catalog.names import check_filename
from app.catalog.receiving import receive_file
from app.catalog.result_files import job_of_result_file, write_result_file
from app.catalog.room import byte_limit
from app.catalog.schemas import CreatedFile, DeletedFile, FileObject
from app.db.dependencies import ProjectEngine, ReadSession
from app.db.models import File
from app.db.session import read_only
from app.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    Gone,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.lists import ListOf, LongPaging, list_of, page_of_rows
from app.routing import Router
from app.settings import Settings
from app.storage.dependencies import Store
from app.storage.store import blob_key

router = Router(prefix="/v1/files", tags=["Files"], responses=problem_responses(Unauthorized, Forbidden))

NO_STATIC_LIMIT: Final = 1 << 62
"""Lifts the limit of other requests; the one that counts is a setting and is applied while reading."""
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(get_args(Purpose)), "default": "corpus"},
                        EXPIRY_ANCHOR: {"type": "string", "enum": ["created_at"]},
                        EXPIRY_SECONDS: {
                            "type": "integer",
                            "minimum": MIN_EXPIRY_SECONDS,
                            "maximum": MAX_EXPIRY_SECONDS,
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=_UPLOAD_BODY,
    responses=problem_responses(BadRequest, ContentTooLarge, Unprocessable, TooManyRequests),
    max_body_size=NO_STATIC_LIMIT,
)
async def create_file(
    principal: CurrentPrincipal,
    engine: ProjectEngine,
    store: Store,
    request: Request,
    filename: Annotated[str | None, Query(description="Needed when the body is the file itself.")] = None,
    purpose: Annotated[Purpose | None, Query(description="May also be a field of the form.")] = None,
    expires_after_seconds: Annotated[
        int | None, Query(alias=EXPIRY_SECONDS, description="May also be a field of the form.")
    ] = None,
) -> CreatedFile:
    """Upload a file, as a form with the part `file` or as the body itself.

    A small file is checked before the answer, a large one soon after (`status` is `uploaded` meanwhile). Then
    `status` is `processed`, or `error` and `error` names the first line that cannot be used.
    """
    settings: Settings = request.app.state.settings
    limit = await run_in_threadpool(
        byte_limit, engine, project_id=principal.project_id, max_bytes=settings.max_upload_bytes
    )
    async with receive_file(request, folder=settings.uploads_dir, limit=limit) as received:
        check_known_fields(received.fields)
        in_query = {"purpose": purpose, EXPIRY_SECONDS: expires_after_seconds}
        given = {name: str(value) for name, value in in_query.items() if value is not None} | received.fields
        arrival = await run_in_threadpool(
            files.store_file,
            engine,
            store,
            received,
            wanted=Wanted(
                filename=check_filename(filename or received.filename),
                purpose=purpose_of(given),
                expires_after=expiry_of(given),
            ),
            principal=principal,
            max_checked_bytes=settings.max_checked_at_upload_bytes,
        )
    return CreatedFile.of(arrival.file, duplicate_of=arrival.duplicate_of)


@router.get("")
def list_files(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: LongPaging,
    purpose: Purpose | None = None,
    sha256: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="Files with these bytes.")
    ] = None,
) -> ListOf[FileObject]:
    """Files of the project."""
    wanted = repository.select_files(project_id=principal.project_id, purpose=purpose, sha256=sha256)
    found, has_more = page_of_rows(session, wanted, id_column=File.id, page=page)
    return ListOf[FileObject](**list_of([FileObject.of(file) for file in found], has_more=has_more))


@router.get("/{file_id}", responses=problem_responses(NotFound, Gone))
def get_file(principal: CurrentPrincipal, session: ReadSession, file_id: str) -> FileObject:
    """One file: an uploaded one, or the curves of a job."""
    job = job_of_result_file(session, project_id=principal.project_id, file_id=file_id)
    if job is not None:
        return FileObject.of_result(write_result_file(session, job))
    return FileObject.of(files.get_file(session, project_id=principal.project_id, file_id=file_id))


@router.delete("/{file_id}", responses=problem_responses(NotFound, Conflict, Gone))
def delete_file(
    principal: CurrentPrincipal, engine: ProjectEngine, store: Store, file_id: str
) -> DeletedFile:
    """Remove a file that no unfinished job names."""
    with read_only(engine) as session:
        job = job_of_result_file(session, project_id=principal.project_id, file_id=file_id)
    if job is not None:
        raise Conflict(
            f"{file_id} holds the curves of {job.id}, and stays as long as the job",
            code="file_of_job",
            hint=f"DELETE /v1/jobs/{job.id} removes both",
        )
    files.delete_file(engine, store, file_id, project_id=principal.project_id)
    return DeletedFile(id=file_id)


@router.head("/{file_id}/content", include_in_schema=False)
@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={**CONTENT_RESPONSES, **problem_responses(Gone)},
)
def get_file_content(
    principal: CurrentPrincipal, session: ReadSession, store: Store, request: Request, file_id: str
) -> Response:
    """Bytes of a file: whole, or one range of it. The entity tag is the sha256."""
    job = job_of_result_file(session, project_id=principal.project_id, file_id=file_id)
    if job is not None:
        written = write_result_file(session, job)
        return answer_with_bytes(request, written.content, filename=written.filename)
    file = files.get_file(session, project_id=principal.project_id, file_id=file_id)
    stored = StoredBytes(
        key=blob_key(project_id=file.project_id, sha256=file.sha256),
        size=file.num_bytes,
        sha256=file.sha256,
        filename=file.filename,
    )
    return download(request, store, stored)
