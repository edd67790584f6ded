"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, so that nothing can be forged or
sent again later.

Reference: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(body: bytes, *, webhook_id: str, timestamp: int, secrets: Sequence[str]) -> dict[str, str]:
    """The headers that prove where a body comes from: one signature for every secret that is valid now.

    Args:
        timestamp: Unix seconds; receivers refuse what is older than some minutes.
    """
    signed = b".".join([webhook_id.encode(), str(timestamp).encode(), body])
    signatures = [f"v1,{_signature(signed, secret)}" for secret in secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def _signature(signed: bytes, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
