"""Lists in the API: pages cut by the id of their last item, so that nothing shifts while they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

Item = TypeVar("Item")
Row = TypeVar("Row")
Order = Literal["asc", "desc"]
MAX_LONG_PAGE = 1000
_ID = r"^[0-9A-Za-z-]{1,64}$"


class ListOf(BaseModel, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRequest:
    """Which page is asked for: at most `limit` items next to `after` or `before`."""

    after: str | None
    before: str | None
    limit: int
    order: Order


async def _page_request(
    after: Annotated[str | None, Query(pattern=_ID, description="Id of the item before the page.")] = None,
    before: Annotated[str | None, Query(pattern=_ID, description="Id of the item after the page.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Order, Query(description="By time of creation.")] = "desc",
) -> PageRequest:
    return PageRequest(after=after, before=before, limit=limit, order=order)


async def _long_page_request(
    after: Annotated[str | None, Query(pattern=_ID, description="Id of the item before the page.")] = None,
    before: Annotated[str | None, Query(pattern=_ID, description="Id of the item after the page.")] = None,
    limit: Annotated[
        int, Query(ge=1, le=10_000, description=f"More than {MAX_LONG_PAGE} count as that many.")
    ] = 20,
    order: Annotated[Order, Query(description="By time of creation.")] = "desc",
) -> PageRequest:
    return PageRequest(after=after, before=before, limit=min(limit, MAX_LONG_PAGE), order=order)


async def _whole_page_request(
    after: Annotated[str | None, Query(pattern=_ID, description="Id of the item before the page.")] = None,
    before: Annotated[str | None, Query(pattern=_ID, description="Id of the item after the page.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LONG_PAGE)] = MAX_LONG_PAGE,
    order: Annotated[Order, Query(description="By time of creation.")] = "desc",
) -> PageRequest:
    return PageRequest(after=after, before=before, limit=limit, order=order)


Paging = Annotated[PageRequest, Depends(_page_request)]
LongPaging = Annotated[PageRequest, Depends(_long_page_request)]
"""For lists of which OpenAI's clients ask for up to 10,000 items at once."""
WholePaging = Annotated[PageRequest, Depends(_whole_page_request)]
"""For lists of which OpenAI's clients take the first page for the whole."""


def page_of_rows(
    session: Session,
    query: Select[Row],
    *,
    id_column: InstrumentedAttribute[Any],
    page: PageRequest,
    cursor: Callable[[str], Any] = str,
) -> tuple[list[Row], bool]:
    """The rows of the page in the order asked for, and whether more follow in the direction of reading.

    `cursor` turns the id of an item into its value in `id_column`, where the list is not ordered by id.
    """
    ascending = page.order == "asc"
    if page.after is not None:
        edge = cursor(page.after)
        query = query.where(id_column > edge if ascending else id_column < edge)
    if page.before is not None:
        edge = cursor(page.before)
        query = query.where(id_column < edge if ascending else id_column > edge)
    backwards = page.before is not None and page.after is None
    direction = id_column.asc() if ascending != backwards else id_column.desc()
    rows = list(session.scalars(query.order_by(direction).limit(page.limit + 1)))
    has_more = len(rows) > page.limit
    rows = rows[: page.limit]
    return (rows[::-1] if backwards else rows), has_more


def list_of(items: Sequence[Any], *, has_more: bool) -> dict[str, Any]:
    """Arguments of a `ListOf`; every item has an `id`."""
    return {
        "data": list(items),
        "first_id": items[0].id if items else None,
        "last_id": items[-1].id if items else None,
        "has_more": has_more,
    }
