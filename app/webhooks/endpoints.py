"""`/v1/webhook_endpoints`: where the caller's project is told what happens."""

from typing import Annotated

from fastapi import Query, Request, status

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.errors import (
    Conflict,
    FieldProblem,
    Forbidden,
    NotFound,
    Unauthorized,
    Unprocessable,
    problem_responses,
)
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.routing import Router
from app.sealing import Seals
from app.webhooks import service
from app.webhooks.reach import Reach, UrlRefused, read_url
from app.webhooks.schemas import (
    ChangeWebhookEndpoint,
    CreateWebhookEndpoint,
    DeletedWebhookEndpoint,
    WebhookDeliveryObject,
    WebhookEndpointObject,
    WebhookEndpointWithSecret,
)
from app.webhooks.types import DeliveryStatus

router = Router(
    prefix="/v1/webhook_endpoints", tags=["Webhooks"], responses=problem_responses(Unauthorized, Forbidden)
)


@router.post("", status_code=status.HTTP_201_CREATED, responses=problem_responses(Conflict, Unprocessable))
def create_webhook_endpoint(
    principal: CurrentPrincipal, request: Request, session: WriteSession, wanted: CreateWebhookEndpoint
) -> WebhookEndpointWithSecret:
    """Make an endpoint. The secret that signs its webhooks is in this answer and nowhere else."""
    _check_url(request, wanted.url)
    endpoint, secret = service.create_endpoint(
        session, principal=principal, seals=_seals_of(request), **wanted.model_dump()
    )
    return _with_secret(endpoint, secret)


@router.get("", responses=problem_responses(Unprocessable))
def list_webhook_endpoints(
    principal: CurrentPrincipal, session: ReadSession, page: Paging
) -> ListOf[WebhookEndpointObject]:
    """Endpoints of the project, without their secrets."""
    found, has_more = page_of_rows(
        session, service.select_endpoints(principal), id_column=WebhookEndpoint.id, page=page
    )
    shown = [WebhookEndpointObject.of(endpoint) for endpoint in found]
    return ListOf[WebhookEndpointObject](**list_of(shown, has_more=has_more))


@router.get("/{webhook_endpoint_id}", responses=problem_responses(NotFound))
def get_webhook_endpoint(
    principal: CurrentPrincipal, session: ReadSession, webhook_endpoint_id: str
) -> WebhookEndpointObject:
    """One endpoint."""
    found = service.get_endpoint(session, principal=principal, endpoint_id=webhook_endpoint_id)
    return WebhookEndpointObject.of(found)


@router.patch("/{webhook_endpoint_id}", responses=problem_responses(NotFound, Unprocessable))
def change_webhook_endpoint(
    principal: CurrentPrincipal,
    request: Request,
    session: WriteSession,
    webhook_endpoint_id: str,
    wanted: ChangeWebhookEndpoint,
) -> WebhookEndpointObject:
    """Change an endpoint. Enabling one that the service disabled sends what waits for it."""
    changes = wanted.changes()
    if "url" in changes:
        _check_url(request, wanted.url)
    changed = service.change_endpoint(
        session, principal=principal, endpoint_id=webhook_endpoint_id, changes=changes
    )
    return WebhookEndpointObject.of(changed)


@router.delete("/{webhook_endpoint_id}", responses=problem_responses(NotFound))
def delete_webhook_endpoint(
    principal: CurrentPrincipal, session: WriteSession, webhook_endpoint_id: str
) -> DeletedWebhookEndpoint:
    """Remove an endpoint with its deliveries; what waits for it is not sent."""
    service.delete_endpoint(session, principal=principal, endpoint_id=webhook_endpoint_id)
    return DeletedWebhookEndpoint(id=webhook_endpoint_id)


@router.post("/{webhook_endpoint_id}/rotate_secret", responses=problem_responses(NotFound))
def rotate_webhook_secret(
    principal: CurrentPrincipal, request: Request, session: WriteSession, webhook_endpoint_id: str
) -> WebhookEndpointWithSecret:
    """Give an endpoint a new secret. For 24 hours its webhooks carry a signature of the old one, too."""
    endpoint, secret = service.rotate_secret(
        session, principal=principal, seals=_seals_of(request), endpoint_id=webhook_endpoint_id
    )
    return _with_secret(endpoint, secret)


@router.post(
    "/{webhook_endpoint_id}/test",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(NotFound, Conflict),
)
def test_webhook_endpoint(
    principal: CurrentPrincipal, session: WriteSession, webhook_endpoint_id: str
) -> WebhookDeliveryObject:
    """Send a webhook of the type `fusion.webhook_endpoint.test`; its delivery says what became of it."""
    return WebhookDeliveryObject.of(
        service.send_test(session, principal=principal, endpoint_id=webhook_endpoint_id)
    )


@router.get("/{webhook_endpoint_id}/deliveries", responses=problem_responses(NotFound, Unprocessable))
def list_webhook_deliveries(
    principal: CurrentPrincipal,
    session: ReadSession,
    webhook_endpoint_id: str,
    page: Paging,
    status: Annotated[DeliveryStatus | None, Query(description="Only those in this status.")] = None,
) -> ListOf[WebhookDeliveryObject]:
    """What was, is or will be sent to an endpoint, with every try. Kept for 30 days."""
    endpoint = service.get_endpoint(session, principal=principal, endpoint_id=webhook_endpoint_id)
    wanted = service.select_deliveries(endpoint, status=status)
    found, has_more = page_of_rows(session, wanted, id_column=WebhookDelivery.id, page=page)
    shown = [WebhookDeliveryObject.of(delivery) for delivery in found]
    return ListOf[WebhookDeliveryObject](**list_of(shown, has_more=has_more))


def _check_url(request: Request, url: str) -> None:
    """Raises Unprocessable when webhooks may not go there."""
    try:
        read_url(url, Reach.of(request.app.state.settings))
    except UrlRefused as error:
        problem = FieldProblem(pointer="/url", code="webhook_url_refused", detail=str(error))
        raise Unprocessable(f"/url: {error}", code=problem.code, errors=[problem]) from error


def _seals_of(request: Request) -> Seals:
    seals: Seals = request.app.state.seals
    return seals


def _with_secret(endpoint: WebhookEndpoint, secret: str) -> WebhookEndpointWithSecret:
    return WebhookEndpointWithSecret(**WebhookEndpointObject.of(endpoint).model_dump(), secret=secret)
