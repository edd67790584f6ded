"""Calls about models that are copied to where others fetch them."""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from app.client.calls import PAGE_SIZE, Calls
from app.client.errors import PublicationFailedError
from app.client.resources.results import Publication


class Publications(Calls):
    """Publishing models."""

    def publish(
        self,
        model_id: str,
        destination: Mapping[str, Any],
        *,
        poll_seconds: float = 1.0,
        on_change: Callable[[Publication], None] = lambda _: None,
    ) -> Publication:
        """Publish a model and wait until it is there.

        Args:
            destination: `{"target": "hf", "repo": "org/name", "secret": "hub-token"}`, or one of the other
                targets of `POST /v1/models/{model_id}/publish`.

        Raises:
            PublicationFailedError: it could not be sent, or somebody cancelled it.
        """
        publication = self.ask_publication(model_id, destination)
        while not publication.is_finished:
            on_change(publication)
            time.sleep(poll_seconds)
            publication = self.get_publication(publication.id)
        if publication.status != "succeeded":
            error = publication.error or {}
            message = (
                f"{publication.id} is {publication.status}: {error.get('message') or 'nothing was said'}"
            )
            raise PublicationFailedError(message, hint=error.get("hint"))
        return publication

    def ask_publication(self, model_id: str, destination: Mapping[str, Any]) -> Publication:
        """Have a model published; `get_publication` tells how far that is."""
        answer = self._transport.request(
            "POST",
            f"/v1/models/{model_id}/publish",
            json=dict(destination),
            headers={"idempotency-key": uuid.uuid4().hex},
            repeatable=True,
        )
        return Publication.model_validate(answer)

    def publications(
        self, *, model_id: str | None = None, status: str | None = None, limit: int = 20
    ) -> list[Publication]:
        """The newest first."""
        params = {"model_id": model_id, "status": status, "limit": min(limit, PAGE_SIZE)}
        return self._list("/v1/publications", Publication, params=params, at_most=limit)

    def get_publication(self, publication_id: str) -> Publication:
        answer = self._transport.request("GET", f"/v1/publications/{publication_id}")
        return Publication.model_validate(answer)

    def cancel_publication(self, publication_id: str) -> Publication:
        path = f"/v1/publications/{publication_id}/cancel"
        return Publication.model_validate(self._transport.request("POST", path, repeatable=True))
