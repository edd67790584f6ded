"""API keys as text: how they are made, recognised and compared. Pure, apart from the random source."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_KEY = re.compile(r"(fus_[0-9a-z]{8})_[A-Za-z0-9_-]{43}")
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class NewKey:
    """A key at the only moment when its text is known."""

    text: str
    prefix: str


def generate_key() -> NewKey:
    """A new key: `fus_`, eight characters that find it again, and 32 random bytes."""
    prefix = "fus_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
    return NewKey(text=f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}", prefix=prefix)


def key_prefix(text: str) -> str | None:
    """The part of a key that is stored in the clear, or `None` when `text` is no key of ours."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def hash_key(text: str, *, pepper: bytes) -> str:
    """Keyed hash of a key: useless to whoever reads the database without the pepper.

    A plain HMAC suffices, because a key holds 256 random bits and cannot be guessed from its hash.
    """
    return hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()


def hashes_equal(left: str, right: str) -> bool:
    """Compare two hashes in a time that says nothing about them."""
    return hmac.compare_digest(left, right)
