"""Signed tickets: they open one file of one artifact for a while, without a key. Pure, but for the clock."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass
from typing import Final, Self

_PURPOSE: Final = b"fusion download ticket"
_SIGNATURE_BYTES: Final = 32


class TicketInvalid(ValueError):
    """Nobody signed this."""


class TicketExpired(ValueError):
    """Its time is over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """`expires_at`: Unix seconds."""

    project_id: str
    artifact_id: str
    path: str
    expires_at: int

    def signed(self, *, pepper: bytes) -> str:
        """The ticket as text for a URL."""
        payload = json.dumps(asdict(self), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(_signature(payload, pepper) + payload).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str, *, pepper: bytes) -> Self:
        """The ticket that we signed.

        Raises:
            TicketInvalid, TicketExpired
        """
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError as error:
            raise TicketInvalid("not base64") from error
        signature, payload = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, _signature(payload, pepper)):
            raise TicketInvalid("wrong signature")
        ticket = cls(**json.loads(payload))
        if ticket.expires_at <= time.time():
            raise TicketExpired
        return ticket


def _signature(payload: bytes, pepper: bytes) -> bytes:
    # A key of its own: what signs tickets must not be what hashes API keys.
    key = hmac.new(pepper, _PURPOSE, hashlib.sha256).digest()
    return hmac.new(key, payload, hashlib.sha256).digest()
