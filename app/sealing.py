"""Secrets that the service has to read again, sealed for the database: AES-256-GCM under a key outside of it.

Every text is encrypted with a key of its own, which is encrypted with the service's key and lies beside it.
Both are bound to the place of the text (`of`: whose secret of which row it is), so that a sealed text that
was copied to another row, or to another project's, does not open.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.accounts.secret_files import load_secret
from app.settings import Settings
from fusion.errors import InfrastructureError

_VERSION: Final = "v1"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEY_ID_LENGTH: Final = 8


class Seals:
    """Seals with the first of its keys, and opens what any of them sealed; a new one goes before the old."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = {_key_id(key): key for key in map(_key_of, secrets)}

    @classmethod
    def load(cls, path: Path, *, given: str | None = None, create: bool = False) -> Self:
        """The keys in `given`, else in the file at `path`: one secret a line, the newest first.

        `create`: make the file where there is none. Only who seals does that: a process on another machine
        that made a key of its own could open nothing with it.

        Raises:
            InfrastructureError: a line is too short to be a secret.
        """
        if given is None and not create and not path.exists():
            return cls([])
        return cls(load_secret(path, given=given, variable="FUSION_SEALING_KEY").splitlines())

    def seal(self, text: str, *, of: str) -> str:
        """The text as only this service can read it, and only as that of `of`. ASCII.

        Raises:
            InfrastructureError: there is no key.
        """
        if not self._keys:
            raise _no_key("there is no key to seal with")
        key_id, key = next(iter(self._keys.items()))
        bound = _bound(key_id, of)
        own = AESGCM.generate_key(bit_length=8 * _KEY_BYTES)
        parts = (_encrypt(key, own, bound=bound), _encrypt(own, text.encode(), bound=bound))
        return ".".join([_VERSION, key_id, *(base64.urlsafe_b64encode(part).decode() for part in parts)])

    def unseal(self, sealed: str, *, of: str) -> str:
        """What was sealed as that of `of`.

        Raises:
            InfrastructureError: the key it was sealed with is not here, or it was altered or moved.
        """
        try:
            version, key_id, wrapped, encrypted = sealed.split(".")
            pieces = base64.urlsafe_b64decode(wrapped), base64.urlsafe_b64decode(encrypted)
        except (ValueError, binascii.Error) as error:
            raise _damaged(of) from error
        if version != _VERSION:
            raise _damaged(of)
        key = self._keys.get(key_id)
        if key is None:
            raise _no_key(f"the secret of {of} was sealed with key {key_id}, which is not here")
        bound = _bound(key_id, of)
        try:
            own = _decrypt(key, pieces[0], bound=bound)
            return _decrypt(own, pieces[1], bound=bound).decode()
        except (InvalidTag, ValueError) as error:
            raise _damaged(of) from error


def load_seals(settings: Settings, *, create: bool = False) -> Seals:
    """The keys that the settings name."""
    given = settings.sealing_key.get_secret_value() if settings.sealing_key is not None else None
    return Seals.load(settings.sealing_key_file, given=given, create=create)


def _encrypt(key: bytes, plain: bytes, *, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, data: bytes, *, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)


def _bound(key_id: str, of: str) -> bytes:
    return f"{_VERSION}.{key_id}.{of}".encode()


def _key_of(secret: str) -> bytes:
    # Plain hashing suffices: the secret holds 256 random bits.
    return hashlib.sha256(b"fusion sealing key\0" + secret.strip().encode()).digest()


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"fusion sealing key id\0" + key).hexdigest()[:_KEY_ID_LENGTH]


def _no_key(message: str) -> InfrastructureError:
    hint = (
        "give every API, worker and housekeeper the same FUSION_SEALING_KEY_FILE or FUSION_SEALING_KEY; "
        "an old key is a further line after the new one"
    )
    return InfrastructureError(message, code="sealing_key_missing", hint=hint)


def _damaged(of: str) -> InfrastructureError:
    return InfrastructureError(
        f"the stored secret of {of} was altered or belongs elsewhere", code="sealed_secret_damaged"
    )
