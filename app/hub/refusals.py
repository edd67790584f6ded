"""Refusals as the hub's clients read them: they tell errors apart by headers, not by the body."""

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response

from app.errors import ApiError
from app.routing import Route

_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_INVALID_CREDENTIALS: Final = "Invalid credentials in Authorization header"


class HubRoute(Route):
    """A route whose problems carry the hub's headers, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                return await answer(request)
            except ApiError as error:
                error.headers = {**_hub_headers(error), **error.headers}
                raise

        return answer_or_refuse


def _hub_headers(error: ApiError) -> dict[str, str]:
    headers = {"X-Error-Message": _UNPRINTABLE.sub("?", error.detail)}
    if error.code == "missing_api_key":
        # To nobody every repository is one that does not exist.
        headers["X-Error-Code"] = "RepoNotFound"
    elif error.status == 401:
        headers["X-Error-Message"] = _INVALID_CREDENTIALS
    return headers
