"""Kombu's Redis transport, except that bytes which are no message are dropped instead of ending the worker.

Kombu takes whatever lies in a queue's list for an envelope of its own, and raises into the event loop, where
nothing catches it, when it is none.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from app.logs import get_logger

log = get_logger(__name__)


class ForgivingChannel(redis.Channel):  # type: ignore[misc] # kombu has no types
    """Passes over what is no JSON."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ValueError as error:
            log.error("message_dropped", reason=f"no JSON: {error}")
            return True


class ForgivingTransport(redis.Transport):  # type: ignore[misc] # kombu has no types
    """Passes over JSON that is no envelope."""

    Channel = ForgivingChannel

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            super()._deliver(message, queue)
        except (KeyError, TypeError, AttributeError) as error:
            log.error("message_dropped", queue=queue, reason=f"no envelope: {error!r}")


def install() -> None:
    """Let `redis://` and `rediss://` mean this transport; call it before the first connection."""
    name = f"{__name__}:{ForgivingTransport.__name__}"
    TRANSPORT_ALIASES.update({"redis": name, "rediss": name})
