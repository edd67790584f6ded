"""Takes the secrets that a stage was given out of what it prints and sends: libraries like to show the
request that failed. It happens where the worker reads, so nothing in the stage's process goes around it."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Final

SCRUBBED: Final = b"[secret]"
_MAX_HELD_BYTES: Final = 1 << 16
"""Of a word without an end; no secret is as long."""
_MIN_ENCODED_BYTES: Final = 10
"""Of what base64 makes of the shortest secret; less than that might be part of any word."""
_LAST_WORD: Final = re.compile(rb"[^ \t\r\n]*\Z")


class Scrubber:
    """Replaces every occurrence of some secrets: plain ASCII without spaces, which JSON, headers and logs
    show as it is, or as a part of what HTTP's basic authentication encodes."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret.encode())}
        # The longest first: one may begin like another.
        self._secrets = sorted(forms, key=len, reverse=True)

    @property
    def longest(self) -> int:
        return len(self._secrets[0]) if self._secrets else 0

    def scrub(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, SCRUBBED)
        return data


def _forms(secret: bytes) -> Iterator[bytes]:
    """The secret, and what base64 makes of it wherever it stands in a text: three bytes become four letters,
    so that there are three ways, less the letters at either end that it shares with its neighbours."""
    yield secret
    for num_before in range(3):
        num_shared_letters = (0, 2, 3)[num_before]
        num_whole_letters = (num_before + len(secret)) * 8 // 6
        encoded = b64encode(bytes(num_before) + secret)[num_shared_letters:num_whole_letters]
        if len(encoded) >= _MIN_ENCODED_BYTES:
            yield encoded
            yield encoded.replace(b"+", b"-").replace(b"/", b"_")


class StreamScrubber:
    """Scrubs bytes that come in pieces. The last word of a piece is held back until it has ended: a secret
    may be cut anywhere."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of the bytes so far may be passed on."""
        data = self._held + data
        num_held = self._num_held(data)
        if num_held > _MAX_HELD_BYTES:
            # What a secret could begin with stays; the word before it is whole.
            data, num_held = self._scrubber.scrub(data), self._scrubber.longest
        passed, self._held = data[: len(data) - num_held], data[len(data) - num_held :]
        return self._scrubber.scrub(passed)

    def end(self) -> bytes:
        """The rest."""
        rest, self._held = self._held, b""
        return self._scrubber.scrub(rest)

    def _num_held(self, data: bytes) -> int:
        found = _LAST_WORD.search(data)
        return 0 if self._scrubber.longest == 0 or found is None else len(found[0])
