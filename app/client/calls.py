"""What every group of calls needs: one transport, and lists read to their end."""

from collections.abc import Mapping
from typing import Any, TypeVar

from app.client.resources.resource import Resource
from app.client.transport import Transport

PAGE_SIZE = 100
ResourceT = TypeVar("ResourceT", bound=Resource)


class Calls:
    """Calls of one service with one key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _list(
        self,
        path: str,
        kind: type[ResourceT],
        *,
        params: Mapping[str, Any] | None = None,
        at_most: int | None = None,
    ) -> list[ResourceT]:
        """All pages of a list, or the first of them that hold as many items as are wanted."""
        wanted: dict[str, Any] = {"limit": PAGE_SIZE, **(params or {})}
        items: list[ResourceT] = []
        while True:
            page = self._transport.request("GET", path, params=wanted)
            items += [kind.model_validate(item) for item in page["data"]]
            if not page.get("has_more") or (at_most is not None and len(items) >= at_most):
                return items[:at_most]
            wanted["after"] = page["last_id"]

    def _whole_list(self, path: str, kind: type[ResourceT]) -> list[ResourceT]:
        """A list that has no pages."""
        return [kind.model_validate(item) for item in self._transport.request("GET", path)["data"]]
