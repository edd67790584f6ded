"""`/v1/files`: corpora and specs, in OpenAI's shapes."""

from typing import Annotated, Any, cast, get_args

from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine

from app.accounts.dependencies import CurrentPrincipal
from app.artifacts.downloads import StoredBytes, download
from app.artifacts.endpoints import CONTENT_RESPONSES
from app.catalog import files, repository
from app.catalog.checks import Purpose
from app.catalog.names import check_filename
from app.catalog.schemas import DeletedFile, FileObject
from app.catalog.uploads import receive_upload
from app.db.dependencies import ReadSession, engine_of
from app.db.models import File
from app.errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    FieldProblem,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.settings import Settings
from app.storage.dependencies import Store
from app.storage.store import blob_key

router = APIRouter(prefix="/v1/files", tags=["Files"], responses=problem_responses(Unauthorized, Forbidden))

# The limit that counts is a setting and is applied while reading; this one only lifts that of other requests.
_NO_STATIC_LIMIT = 1 << 62
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
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
EngineDependency = Annotated[Engine, Depends(engine_of)]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=_UPLOAD_BODY,
    responses=problem_responses(BadRequest, ContentTooLarge, Unprocessable),
    max_body_size=_NO_STATIC_LIMIT,
)
async def create_file(
    principal: CurrentPrincipal,
    engine: EngineDependency,
    store: Store,
    request: Request,
    filename: Annotated[str | None, Query(description="Needed when the body is the file itself.")] = None,
    purpose: Annotated[Purpose | None, Query(description="May also be a field of the form.")] = None,
) -> FileObject:
    """Upload a file, as a form with the part `file` or as the body itself.

    It is checked at once: `status` is `processed` or `error`, and `error` names the first broken line.
    """
    settings: Settings = request.app.state.settings
    async with receive_upload(
        request, folder=settings.uploads_dir, max_bytes=settings.max_upload_bytes
    ) as received:
        file = await run_in_threadpool(
            files.store_upload,
            engine,
            store,
            received,
            filename=check_filename(filename or received.filename),
            purpose=_purpose(received.fields, in_query=purpose),
            principal=principal,
        )
    return FileObject.of(file)


@router.get("")
def list_files(
    principal: CurrentPrincipal, session: ReadSession, page: Paging, purpose: Purpose | None = None
) -> ListOf[FileObject]:
    """Files of the project."""
    wanted = repository.select_files(project_id=principal.project_id, purpose=purpose)
    found, has_more = page_of_rows(session, wanted, id_column=File.id, page=page)
    return ListOf[FileObject](**list_of([FileObject.of(file) for file in found], has_more=has_more))


@router.get("/{file_id}", responses=problem_responses(NotFound))
def get_file(principal: CurrentPrincipal, session: ReadSession, file_id: str) -> FileObject:
    """One file."""
    return FileObject.of(files.get_file(session, project_id=principal.project_id, file_id=file_id))


@router.delete("/{file_id}", responses=problem_responses(NotFound, Conflict))
def delete_file(
    principal: CurrentPrincipal, engine: EngineDependency, store: Store, file_id: str
) -> DeletedFile:
    """Remove a file that no unfinished job names."""
    files.delete_file(engine, store, file_id, project_id=principal.project_id)
    return DeletedFile(id=file_id)


@router.head("/{file_id}/content", include_in_schema=False)
@router.get("/{file_id}/content", response_class=Response, responses=CONTENT_RESPONSES)
def get_file_content(
    principal: CurrentPrincipal, session: ReadSession, store: Store, request: Request, file_id: str
) -> Response:
    """Bytes of a file: whole, or one range of it. The entity tag is the sha256."""
    file = files.get_file(session, project_id=principal.project_id, file_id=file_id)
    stored = StoredBytes(
        key=blob_key(project_id=file.project_id, sha256=file.sha256),
        size=file.num_bytes,
        sha256=file.sha256,
        filename=file.filename,
    )
    return download(request, store, stored)


def _purpose(fields: dict[str, str], *, in_query: Purpose | None) -> Purpose:
    unknown = sorted(fields.keys() - {"purpose"})
    if unknown:
        raise _refused(f"/{unknown[0]}", "extra_forbidden", f"unknown form fields: {', '.join(unknown)}")
    purpose = fields.get("purpose", in_query or "corpus")
    if purpose not in get_args(Purpose):
        expected = " or ".join(get_args(Purpose))
        raise _refused("/purpose", "purpose_unknown", f"purpose is {purpose!r}, expected {expected}")
    return cast("Purpose", purpose)


def _refused(pointer: str, code: str, detail: str) -> Unprocessable:
    return Unprocessable(detail, code=code, errors=[FieldProblem(pointer=pointer, code=code, detail=detail)])
