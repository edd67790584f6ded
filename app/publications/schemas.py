"""Publications as the API shows them."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from app.db.base import unix_seconds
from app.db.models import Publication
from app.publications.destinations import AskedDestination, read_destination
from app.publications.places import Target
from app.publications.repository import PublicationStatus


class PublicationError(BaseModel):
    """What went wrong at the last try."""

    code: str
    message: str
    hint: str | None


class PublicationObject(BaseModel):
    """A model that is copied to a place outside of the service."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["publication"] = "publication"
    model_id: str
    job_id: str
    """The job that made the model."""
    target: Target
    destination: AskedDestination
    """As it was asked for; of a secret only the name."""
    status: PublicationStatus
    """`queued` until somebody sends, also again after a try in vain; `running` while they do; then
    `succeeded`, `failed` or `cancelled`."""
    num_bytes: int
    num_bytes_sent: int
    """Renewed every few seconds; another try begins again, but for files that are there."""
    num_failures: int
    """How often the place could not be reached."""
    next_try_at: int | None
    """When it is tried again; null where it is not a matter of waiting."""
    url: str | None
    """Where it is now, once it is."""
    revision: str | None
    """Commit of a hub, digest of a folder, version of an MLflow model."""
    error: PublicationError | None
    """Of a failed one, or of the last try of one that is tried again."""
    created_at: int
    finished_at: int | None

    @classmethod
    def of(cls, publication: Publication) -> Self:
        destination, place = read_destination(publication.destination), publication.place or {}
        is_waiting = publication.status == PublicationStatus.QUEUED and publication.num_failures > 0
        finished_at = publication.finished_at
        return cls(
            id=publication.id,
            model_id=publication.model_id,
            job_id=publication.job_id,
            target=Target(destination.target),
            destination=destination,
            status=PublicationStatus(publication.status),
            num_bytes=publication.num_bytes,
            num_bytes_sent=publication.num_bytes_sent,
            num_failures=publication.num_failures,
            next_try_at=unix_seconds(publication.due_at) if is_waiting else None,
            url=place.get("url"),
            revision=place.get("revision"),
            error=None if publication.error is None else PublicationError(**publication.error),
            created_at=unix_seconds(publication.created_at),
            finished_at=None if finished_at is None else unix_seconds(finished_at),
        )
