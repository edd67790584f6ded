"""A stream of events that goes on where it stopped, however often its connection is cut."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx2

from app.client.errors import ClientError, StreamRefusedError, error_from_response
from app.client.event_stream import ServerEvent, read_events
from app.client.transport import RETRIED_STATUSES, Transport, backoff_seconds, retry_after_seconds

JOB_END = "job.end"
QUIET_SECONDS = 45.0
"""Three heartbeats of the service: after so long without one the connection is dead."""
_MAX_SILENT_TRIES = 3
"""So many connections in a row that stay open and say nothing: something in between holds the stream back."""
_NO_SUCH_ROUTE = frozenset({404, 405, 406, 501})
_TIMEOUT = httpx2.Timeout(QUIET_SECONDS, connect=10.0)


class _Place:
    """What was seen, and when the service was heard last."""

    def __init__(self, *, after: int, metrics_since: int | None) -> None:
        self.seq = after
        self.metrics_since = metrics_since
        self.heard_at = time.monotonic()
        self.num_failures = 0
        self.num_silent = 0

    def hear(self) -> None:
        self.heard_at = time.monotonic()
        self.num_failures = self.num_silent = 0

    def is_new(self, event: ServerEvent) -> bool:
        """Whether the event was not told before; notes it."""
        if "next_since" in event.data:
            self.metrics_since = event.data["next_since"]
        if event.type == JOB_END or event.data.get("object") != "event":
            return True
        seq = int(event.data["seq"])
        is_new, self.seq = seq > self.seq, max(seq, self.seq)
        return is_new


def follow_events(
    transport: Transport,
    job_id: str,
    *,
    after: int,
    metrics_since: int | None,
    types: Sequence[str],
    patience_seconds: float,
) -> Iterator[ServerEvent]:
    """See `Following.follow`."""
    place = _Place(after=after, metrics_since=metrics_since)
    path = f"/v1/jobs/{job_id}/events/stream"
    while True:
        pause: float | None = None
        failure: ClientError | None = None
        try:
            with _open(transport, path, place, types=types) as response:
                if response.status_code == 204:
                    return
                if response.status_code in RETRIED_STATUSES:
                    response.read()
                    pause, failure = retry_after_seconds(response), error_from_response(response)
                else:
                    _check(response)
                    for event in read_events(response.iter_lines()):
                        place.hear()
                        if event is not None and place.is_new(event):
                            yield event
                            if event.type == JOB_END:
                                return
        except httpx2.TransportError as error:
            place.num_silent += isinstance(error, httpx2.ReadTimeout)
            failure = transport.unreachable(error)
        if failure is not None and time.monotonic() - place.heard_at > patience_seconds:
            raise failure
        if place.num_silent >= _MAX_SILENT_TRIES:
            raise StreamRefusedError("the stream's connections stay open and silent", hint="poll instead")
        transport.pause(pause or backoff_seconds(min(place.num_failures, 5)))
        place.num_failures += 1


def _open(
    transport: Transport, path: str, place: _Place, *, types: Sequence[str]
) -> AbstractContextManager[httpx2.Response]:
    params: dict[str, Any] = {"types": ",".join(types), "metrics_since": place.metrics_since}
    wanted = {name: value for name, value in params.items() if value not in (None, "")}
    headers = {"accept": "text/event-stream"}
    if place.seq:
        headers["last-event-id"] = str(place.seq)
    return transport.http.stream("GET", path, params=wanted, headers=headers, timeout=_TIMEOUT)


def _check(response: httpx2.Response) -> None:
    """Raises what the service refused the stream with, or that it gives none."""
    if response.is_error:
        response.read()
        error = error_from_response(response)
        if response.status_code in _NO_SUCH_ROUTE and error.code != "job_not_found":
            raise StreamRefusedError(f"the service has no streams: {error.message}")
        raise error
    content_type = response.headers.get("content-type", "")
    if not content_type.startswith("text/event-stream"):
        raise StreamRefusedError(f"expected a stream of events, got {content_type or 'no type'}")
