"""Takes secrets out of what a process prints and sends: libraries like to show the request that failed."""

import sys
from collections.abc import Iterable
from typing import Any, Final, TextIO, cast

SCRUBBED: Final = "[secret]"


class Scrubber:
    """Replaces every occurrence of some secrets: plain ASCII, which JSON and headers show as it is."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one may begin like another.
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, SCRUBBED)
        return text


NOTHING_SECRET: Final = Scrubber([])


class ScrubbedStream:
    """A text stream that passes on what is written to it without secrets."""

    def __init__(self, stream: TextIO, scrubber: Scrubber) -> None:
        self._stream = stream
        self._scrubber = scrubber

    def write(self, text: str) -> int:
        self._stream.write(self._scrubber.scrub(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def scrubbing_output(secrets: Iterable[str]) -> Scrubber:
    """Scrub standard output and error from now on; what does the same for anything else."""
    given = list(secrets)
    scrubber = Scrubber(given)
    if given:
        sys.stdout = cast("TextIO", ScrubbedStream(sys.stdout, scrubber))
        sys.stderr = cast("TextIO", ScrubbedStream(sys.stderr, scrubber))
    return scrubber
