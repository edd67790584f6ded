"""`/v1/api_keys`: the keys of the caller's project."""

from fastapi import Request, status

from app.accounts import repository, service
from app.accounts.dependencies import CurrentPrincipal, pepper_of
from app.accounts.schemas import ApiKeyObject, CreateApiKey, CreatedApiKey, DeletedApiKey, RotateApiKey
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import ApiKey
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router

router = Router(
    prefix="/v1/api_keys", tags=["API keys"], responses=problem_responses(Unauthorized, Forbidden)
)


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(Unprocessable))
def create_api_key(
    principal: CurrentPrincipal, request: Request, session: WriteSession, wanted: CreateApiKey
) -> CreatedApiKey:
    """Make a key. Its secret is in this answer and nowhere else."""
    key, text = service.grant_key(
        session,
        principal=principal,
        name=wanted.name,
        scopes=wanted.scopes,
        pepper=pepper_of(request),
        expires_in_seconds=wanted.expires_in_seconds,
    )
    return CreatedApiKey(**ApiKeyObject.of(key).model_dump(), secret=text)


@router.get("")
def list_api_keys(principal: CurrentPrincipal, session: ReadSession, page: Paging) -> ListOf[ApiKeyObject]:
    """Keys that still work."""
    keys, has_more = page_of_rows(
        session, repository.live_keys(principal.project_id), id_column=ApiKey.id, page=page
    )
    return ListOf[ApiKeyObject](**list_of([ApiKeyObject.of(key) for key in keys], has_more=has_more))


@router.get("/{key_id}", responses=problem_responses(NotFound))
def get_api_key(principal: CurrentPrincipal, session: ReadSession, key_id: str) -> ApiKeyObject:
    """One key."""
    return ApiKeyObject.of(service.get_key(session, project_id=principal.project_id, key_id=key_id))


@router.post(
    "/{key_id}/rotate",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(NotFound, Conflict, Unprocessable),
)
def rotate_api_key(
    principal: CurrentPrincipal, request: Request, session: WriteSession, key_id: str, wanted: RotateApiKey
) -> CreatedApiKey:
    """Make a key that takes the place of this one. Both work until the overlap is over."""
    key, text = service.rotate_key(
        session,
        principal=principal,
        key_id=key_id,
        overlap_seconds=wanted.overlap_seconds,
        pepper=pepper_of(request),
    )
    return CreatedApiKey(**ApiKeyObject.of(key).model_dump(), secret=text)


@router.delete("/{key_id}", responses=problem_responses(NotFound, Conflict))
def delete_api_key(principal: CurrentPrincipal, session: WriteSession, key_id: str) -> DeletedApiKey:
    """Revoke a key, at once."""
    service.revoke_key(session, principal=principal, key_id=key_id)
    return DeletedApiKey(id=key_id)
