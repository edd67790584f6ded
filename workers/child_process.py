"""One attempt's process: started in a session of its own, heard over pipes, ended with all it started.

Whatever comes out of it, printed or sent, by Python or by native code, passes the scrubber on its way in.

The leader is reaped last: while it is a zombie its id cannot go to a stranger, so signals to its group never
reach somebody else's process.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from app.operations.processes import PROC, members_of_session
from fusion.errors import InternalError
from workers.scrubbing import Scrubber
from workers.stage_output import StageOutput

TERMINATE_SECONDS = 10.0
KILL_SECONDS = 10.0
_READ_BYTES = 1 << 16
_MAX_READS = 64
_MAX_EVENT_BYTES = 64 << 20
_MAX_SECRETS_BYTES = 1 << 16
_OF_THE_SERVICE = ("FUSION_", "CELERY_", "PG", "AWS_", "GOOGLE_", "AZURE_")
"""How variables begin that name databases, brokers and stores, or open them. A stage needs none of them."""

Event = dict[str, Any]


class ChildProcess:
    """A running stage. Leave the `started` block and nothing of it is left."""

    def __init__(
        self, process: subprocess.Popen[bytes], *, events_descriptor: int, scrubber: Scrubber
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._descriptor = events_descriptor
        self._scrubber = scrubber
        self._buffer = b""
        os.set_blocking(events_descriptor, False)

    @property
    def has_exited(self) -> bool:
        """Whether the leader ended; it is not reaped by asking."""
        if self._process.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def wait_for_events(self, seconds: float) -> list[Event]:
        """Events that arrive within `seconds`; returns at once when there are any."""
        with suppress(InterruptedError):
            select.select([self._descriptor], [], [], seconds)
        return self.read_events()

    def read_events(self) -> list[Event]:
        """Whole events that are in the pipe now.

        Raises:
            InternalError: a line that is no event.
        """
        for _ in range(_MAX_READS):
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                # End of file shows a moment before the exit does; without a pause the caller would spin.
                time.sleep(0.02)
                break
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _MAX_EVENT_BYTES:
            raise InternalError("the stage sent an event without an end", code="stage_protocol")
        return [_parse(self._scrubber.scrub(line)) for line in lines if line]

    def ask_to_end(self) -> None:
        """Send the group SIGTERM: a stage that can stores what it has, any other ends at once."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> int:
        """Kill the group and whatever it started, and reap the leader. Returns its exit status.

        Raises:
            InternalError: processes that even SIGKILL does not end (stuck in the kernel).
        """
        deadline = time.monotonic() + KILL_SECONDS
        while members := self.members():
            if time.monotonic() > deadline:
                raise InternalError(f"processes {members} do not end on SIGKILL", code="stage_unkillable")
            self._signal_group(signal.SIGKILL)
            for pid in members:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return self._process.wait(timeout=KILL_SECONDS)

    def members(self) -> list[int]:
        """Processes of the session and their descendants that still run, zombies not counted."""
        if self._process.returncode is not None:
            return []
        if PROC.is_dir():
            return members_of_session(self.pid)
        return [] if self.has_exited else [self.pid]

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


@contextmanager
def started(
    command: Sequence[str],
    *,
    request: Path,
    log: Path,
    secrets: Mapping[str, str] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[ChildProcess]:
    """Run `command REQUEST --events-fd N` with its output in `log`.

    `secrets` reach it through a pipe (`--secrets-fd M`): arguments and environment can be read in `/proc`.
    What it prints and sends is scrubbed of them.

    Must be called from a thread that outlives the block: the kernel ties the child to that thread.
    """
    scrubber = Scrubber((secrets or {}).values())
    with ExitStack() as readers:
        # Closed as soon as the process has its copies: the end of a pipe is the end of its last writer.
        with ExitStack() as given:
            events, inherited = _pipe(readers, given)
            printed, output = _pipe(readers, given)
            readers.enter_context(StageOutput(printed, log, scrubber))
            words = [*command, str(request), "--events-fd", str(inherited)]
            descriptors = [inherited]
            if secrets:
                descriptors.append(_readable(secrets, given))
                words += ["--secrets-fd", str(descriptors[-1])]
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_plain_environment(), "PYTHONUNBUFFERED": "1", **(environment or {})},
                pass_fds=descriptors,
                start_new_session=True,
            )
        child = ChildProcess(process, events_descriptor=events, scrubber=scrubber)
        try:
            yield child
        finally:
            child.kill()


def _pipe(readers: ExitStack, writers: ExitStack) -> tuple[int, int]:
    """Both ends of a new pipe, each closed with its stack."""
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    return reader, writer


def _readable(secrets: Mapping[str, str], held: ExitStack) -> int:
    """The reading end of a pipe that holds secrets as JSON. Whoever reads them takes them out of it."""
    data = json.dumps(dict(secrets)).encode()
    assert len(data) <= _MAX_SECRETS_BYTES, "a pipe without a reader takes no more"
    with ExitStack() as written:
        reader, writer = _pipe(held, written)
        os.write(writer, data)
    return reader


def _plain_environment() -> dict[str, str]:
    """This process's environment without what leads to the service's database, broker and store."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_SERVICE)}


def default_command() -> list[str]:
    """The engine's own entry point, in this very interpreter."""
    return [sys.executable, "-m", "fusion", "stage"]


def _parse(line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise InternalError(
            f"the stage sent {line[:200]!r}, which is no event", code="stage_protocol"
        ) from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise InternalError(f"the stage sent {line[:200]!r}, which is no event", code="stage_protocol")
    return event
