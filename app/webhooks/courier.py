"""Sends what is due, several at once, from any number of processes."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

import httpx2
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.db.base import unix_seconds
from app.db.session import in_transaction, read_only
from app.logs import get_logger
from app.retries import asked_seconds
from app.sealing import Seals, load_seals
from app.settings import Settings
from app.webhooks.deliveries import LEASE_SECONDS, Claimed, Try, claim, record, something_is_due
from app.webhooks.reach import Reach, UrlRefused, read_url
from app.webhooks.schedule import RETRY_SECONDS
from app.webhooks.service import place_of_secret
from app.webhooks.signing import signed_headers
from app.webhooks.wire import Reply, Undelivered, Wire
from fusion.errors import FusionError
from fusion.failpoints import failpoint

_MAX_AT_ONCE: Final = 16
_LOOK_SECONDS: Final = 0.1
_USER_AGENT: Final = f"fusion-webhooks/{version('fusion-service')}"

log = get_logger(__name__)


@dataclass(kw_only=True)
class Courier:
    """Claims deliveries, sends them and writes down what became of them."""

    engine: Engine
    seals: Callable[[], Seals]
    """Asked anew with every webhook: the key may be made, or replaced, while this process runs."""
    wire: Wire
    pauses: Sequence[float] = RETRY_SECONDS
    lease_seconds: float = LEASE_SECONDS
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run_once(self) -> None:
        """Send until nothing is due any more."""
        threads: list[threading.Thread] = []
        while not self._stopping.is_set():
            threads = [thread for thread in threads if thread.is_alive()]
            if len(threads) < _MAX_AT_ONCE and self._something_is_due():
                # Daemons: a receiver that takes its time does not hold up the end of the process.
                threads.append(threading.Thread(target=self._send_all, name="webhooks", daemon=True))
                threads[-1].start()
            elif threads:
                threads[0].join(_LOOK_SECONDS)
            else:
                return
        for thread in threads:
            thread.join()

    def interrupt(self) -> None:
        """Claim nothing more."""
        self._stopping.set()

    def send(self, claimed: Claimed) -> Try:
        """One try."""
        started_at, clock = int(time.time()), time.monotonic()

        def ended(**facts: object) -> Try:
            return Try(started_at=started_at, seconds=time.monotonic() - clock, **facts)  # type: ignore[arg-type]

        try:
            reply = self._post(claimed, timestamp=started_at)
        except UrlRefused as error:
            return ended(error="url_refused", message=str(error))
        except Undelivered as error:
            return ended(error=error.code, message=error.message)
        except FusionError as error:
            log.error("webhook_not_signed", delivery_id=claimed.id, error=str(error), hint=error.hint)
            return ended(error=error.code, message="the service could not sign it", is_receivers=False)
        return ended(**_facts_of(reply))

    def _something_is_due(self) -> bool:
        with read_only(self.engine) as session:
            return something_is_due(session)

    def _send_all(self) -> None:
        try:
            while not self._stopping.is_set() and self._send_next():
                pass
        except DBAPIError as error:
            log.warning("database_unreachable", chore="webhooks", error=str(error))
        except Exception:
            # Its lease ends, and it is tried again; whoever reads the log can mend what is wrong.
            log.exception("webhook_failed")

    def _send_next(self) -> bool:
        claimed = in_transaction(self.engine, claim, lease_seconds=self.lease_seconds)
        if claimed is None:
            return False
        tried = self.send(claimed)
        failpoint("webhook.sent")
        in_transaction(self.engine, record, claimed, tried, pauses=self.pauses)
        return True

    def _post(self, claimed: Claimed, *, timestamp: int) -> Reply:
        target = read_url(claimed.url, self.wire.reach)
        place = place_of_secret(project_id=claimed.project_id, endpoint_id=claimed.endpoint_id)
        seals = self.seals()
        secrets = [seals.unseal(sealed, of=place) for sealed in claimed.sealed_secrets]
        body = body_of(claimed)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            **signed_headers(body, webhook_id=claimed.event_id, timestamp=timestamp, secrets=secrets),
        }
        return self.wire.post(target, headers=headers, body=body)


def open_courier(engine: Engine, settings: Settings) -> Courier:
    """A courier as the settings want it."""
    wire = Wire(reach=Reach.of(settings), ssl_context=httpx2.create_ssl_context())
    return Courier(engine=engine, seals=lambda: load_seals(settings), wire=wire)


def body_of(claimed: Claimed) -> bytes:
    """What is sent: OpenAI's fields of an event, and the time as Standard Webhooks has it."""
    event = {
        "id": claimed.event_id,
        "object": "event",
        "type": claimed.webhook_type,
        "created_at": unix_seconds(claimed.created_at),
        "timestamp": claimed.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": claimed.data,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _facts_of(reply: Reply) -> dict[str, object]:
    if reply.is_success:
        return {"status": reply.status}
    return {
        "status": reply.status,
        "error": "refused",
        "message": f"expected a status from 200 to 299, got {reply.status}",
        "asked_seconds": asked_seconds(reply.retry_after, now=datetime.now(UTC)),
    }
