"""Takes the secrets that a stage was given out of what it prints and sends: libraries like to show the
request that failed. It happens where the worker reads, so nothing in the stage's process goes around it."""

import re
from collections.abc import Iterable
from typing import Final

SCRUBBED: Final = b"[secret]"
_MAX_HELD_BYTES: Final = 1 << 16
"""Of a word without an end; no secret is as long."""
_LAST_WORD: Final = re.compile(rb"[^ \t\r\n]*\Z")


class Scrubber:
    """Replaces every occurrence of some secrets: plain ASCII without spaces, which JSON, headers and logs
    show as it is."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one may begin like another.
        self._secrets = sorted({secret.encode() for secret in secrets}, key=len, reverse=True)

    @property
    def longest(self) -> int:
        return len(self._secrets[0]) if self._secrets else 0

    def scrub(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, SCRUBBED)
        return data


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
