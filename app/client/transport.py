"""HTTP with patience: retries what may safely be sent again, and turns refusals into typed errors."""

import re
import time
from collections.abc import Callable, Mapping
from random import SystemRandom
from typing import Any

import httpx2

from app.client.errors import AuthenticationError, UnreachableError, error_from_response

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
MAX_ATTEMPTS = 5
MAX_PAUSE_SECONDS = 20.0
CONNECT_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS = 60.0
_TIMEOUT = httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
_SENDABLE_KEY = re.compile(r"[!-~]+")  # printable ASCII without spaces: what a header can carry


def backoff_seconds(attempt: int) -> float:
    """Pause before try number `attempt + 1` (first try is 0): exponential with full jitter."""
    return SystemRandom().uniform(0.1, 1.0) * min(MAX_PAUSE_SECONDS, 0.25 * 2.0**attempt)


class Transport:
    """Requests to one service with one key. Safe to use from several threads."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        user_agent: str,
        project_id: str | None = None,
        transport: httpx2.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"user-agent": user_agent}
        if api_key is not None:
            headers["authorization"] = f"Bearer {_checked_key(api_key)}"
        if project_id is not None:
            headers["openai-project"] = project_id
        self.pause = pause
        self.http = httpx2.Client(
            base_url=base_url,
            headers=headers,
            transport=transport,
            timeout=_TIMEOUT,
        )
        # For links to other places: they must not learn the key.
        self.bare = httpx2.Client(headers={"user-agent": user_agent}, transport=transport, timeout=_TIMEOUT)

    def close(self) -> None:
        self.http.close()
        self.bare.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        build: Callable[[], dict[str, Any]] | None = None,
    ) -> Any:
        """Send and return the JSON of the answer (None where it has none).

        Args:
            repeatable: whether sending it twice is harmless; by default true for anything but POST.
            build: gives extra arguments anew for every try, for bodies that are read while sent.
        """
        response = self._send(
            method, path, params=params, json=json, headers=headers, repeatable=repeatable, build=build
        )
        return response.json() if response.content else None

    def text(self, path: str, *, params: Mapping[str, Any] | None = None) -> str:
        """What GET answers, as text."""
        return self._send("GET", path, params=params).text

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        build: Callable[[], dict[str, Any]] | None = None,
    ) -> httpx2.Response:
        tries = MAX_ATTEMPTS if (method != "POST" if repeatable is None else repeatable) else 1
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        for attempt in range(tries):
            last = attempt == tries - 1
            body = build() if build is not None else {"json": json} if json is not None else {}
            try:
                response = self.http.request(method, path, params=wanted, headers=headers, **body)
            except httpx2.TransportError as error:
                if last:
                    raise self.unreachable(error) from error
                self.pause(backoff_seconds(attempt))
                continue
            # A quota is not freed by asking again.
            is_final = response.headers.get("x-should-retry") == "false"
            if response.status_code in RETRIED_STATUSES and not last and not is_final:
                self.pause(retry_after_seconds(response) or backoff_seconds(attempt))
                continue
            if response.is_error:
                raise error_from_response(response)
            return response
        raise AssertionError("unreachable: every branch of the last attempt returns or raises")

    def unreachable(self, error: httpx2.TransportError) -> UnreachableError:
        """The error for a service that does not answer."""
        return UnreachableError(
            f"no answer from {self.http.base_url}: {str(error) or type(error).__name__}",
            hint="is the service running (`fusion serve`), and is the URL right (--url, FUSION_URL)?",
        )


def _checked_key(text: str) -> str:
    if not _SENDABLE_KEY.fullmatch(text):
        raise AuthenticationError(
            "the API key is malformed: it holds letters that no key has",
            status=401,
            code="invalid_api_key",
            hint="a key is plain ASCII and begins with fus_; was it copied completely, and nothing else?",
        )
    return text


def retry_after_seconds(response: httpx2.Response) -> float | None:
    """What the service asks for, within reason; dates are not understood."""
    value = response.headers.get("retry-after", "")
    return min(float(value), MAX_PAUSE_SECONDS) if value.isdigit() else None
