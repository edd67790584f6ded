"""`/v1/models/{model_id}/publish` and `/v1/publications`: models copied to where others fetch them."""

from typing import Annotated, Final

from fastapi import Body, Request, Response, status
from fastapi.openapi.models import Example

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, WriteSession
from app.db.models import Publication
from app.errors import Conflict, Forbidden, NotFound, Unauthorized, Unprocessable, problem_responses
from app.idempotency import Answer, Repeatable, answer_once
from app.lists import ListOf, Paging, list_of, page_of_rows
from app.publications import repository, service
from app.publications.destinations import AskedDestination, Outlets
from app.publications.repository import PublicationStatus
from app.publications.schemas import PublicationObject
from app.routing import Router

_DESTINATIONS: Final[dict[str, Example]] = {
    "hub": {"value": {"target": "hf", "repo": "org/wise-7b", "secret": "hub-token"}},
    "bucket": {
        "value": {
            "target": "s3",
            "url": "s3://models/wise-7b",
            "region": "eu-central-1",
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret": "aws-key",
        }
    },
    "mlflow": {
        "value": {
            "target": "mlflow",
            "tracking_uri": "https://mlflow.example.com",
            "name": "wise",
            "secret": "mlflow-token",
        }
    },
}

router = Router(tags=["Publications"], responses=problem_responses(Unauthorized, Forbidden))


@router.post(
    "/v1/models/{model_id}/publish",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=PublicationObject,
    responses=problem_responses(NotFound, Conflict, Unprocessable),
)
def publish_model(
    principal: CurrentPrincipal,
    session: WriteSession,
    request: Request,
    asked: Repeatable,
    model_id: str,
    wanted: Annotated[AskedDestination, Body(openapi_examples=_DESTINATIONS)],
) -> Response:
    """Copy a model to a hub, a bucket or an MLflow server. It takes its time: poll `Location`.

    Whoever keeps house sends it, and tries again for some hours where the place cannot be reached. Asked
    again before it is finished, it is the same publication. A hub or a bucket that has the model already gets
    nothing; an MLflow server gets another version.
    """
    outlets = Outlets.of(request.app.state.settings)

    def act() -> Answer:
        publication = service.ask_publication(
            session, principal=principal, model_id=model_id, destination=wanted, outlets=outlets
        )
        return Answer(
            body=PublicationObject.of(publication),
            status=status.HTTP_202_ACCEPTED,
            headers={"Location": f"/v1/publications/{publication.id}"},
        )

    return answer_once(session, asked, act)


@router.get("/v1/publications", responses=problem_responses(Unprocessable))
def list_publications(
    principal: CurrentPrincipal,
    session: ReadSession,
    page: Paging,
    model_id: str | None = None,
    status: PublicationStatus | None = None,
) -> ListOf[PublicationObject]:
    """Publications of the project, the newest first."""
    wanted = repository.select_publications(principal.project_id, model_id=model_id, status=status)
    found, has_more = page_of_rows(session, wanted, id_column=Publication.id, page=page)
    return ListOf[PublicationObject](
        **list_of([PublicationObject.of(publication) for publication in found], has_more=has_more)
    )


@router.get("/v1/publications/{publication_id}", responses=problem_responses(NotFound))
def get_publication(
    principal: CurrentPrincipal, session: ReadSession, publication_id: str
) -> PublicationObject:
    """How far a publication is, and what became of it."""
    found = service.get_publication(session, project_id=principal.project_id, publication_id=publication_id)
    return PublicationObject.of(found)


@router.post("/v1/publications/{publication_id}/cancel", responses=problem_responses(NotFound, Conflict))
def cancel_publication(
    principal: CurrentPrincipal, session: WriteSession, publication_id: str
) -> PublicationObject:
    """End a publication that is not finished. What the place has got by then stays there."""
    found = service.cancel_publication(
        session, project_id=principal.project_id, publication_id=publication_id
    )
    return PublicationObject.of(found)
