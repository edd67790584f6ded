"""One stage in a process of its own: how a supervisor asks for it and hears from it.

The request is a JSON file. Events go, one JSON object a line, to a file descriptor that the supervisor hands
down, so that whatever libraries print cannot be mistaken for one; standard output and error are the log.

    {"type": "progress", "done", "total", "unit", "tokens"}
    {"type": "metrics", "step", "values"}
    {"type": "part", "path"}                      a finished folder, relative to out_dir
    {"type": "note", "message", "details"}
    {"type": "report", "figures"}                 the last event of a success; exit code 0
    {"type": "error", "code", "category", ...}    the last event of a failure; exit code 1

Secrets come as one JSON object, name to value, over a pipe of their own: they stand in no file, no argument
and no environment. The supervisor scrubs what the process prints and sends of them.

Any other end (a signal, another exit code, no last event) is a crash.
"""

import ctypes
import hashlib
import json
import os
import resource
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fusion.errors import CapacityError, FusionError, InternalError
from fusion.exhaustion import is_disk_full, is_out_of_memory, out_of_memory
from fusion.failpoints import failpoint
from fusion.io.atomic import read_json
from fusion.io.stage_inputs import StageInputs
from fusion.pipeline import run_stage
from fusion.plan import Stage
from fusion.spec import FusionSpec

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRequest:
    """What the supervisor asks for."""

    stage: Stage
    spec: FusionSpec
    inputs: StageInputs
    out_dir: Path


@dataclass(frozen=True, slots=True)
class EventPipe:
    """Writes events as JSON lines; whole lines only, from any thread. Implements `Progress`."""

    descriptor: int
    out_dir: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, event: dict[str, Any]) -> None:
        line = memoryview((json.dumps(event) + "\n").encode())
        with self.lock:
            while line:
                line = line[os.write(self.descriptor, line) :]

    def update(self, done: float, total: float, *, unit: str, tokens: int | None = None) -> None:
        self.send({"type": "progress", "done": done, "total": total, "unit": unit, "tokens": tokens})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.send({"type": "metrics", "step": step, "values": values})

    def part_finished(self, path: Path) -> None:
        failpoint("part.finished")
        name = path.relative_to(self.out_dir).as_posix()
        self.send({"type": "part", "path": name})
        write_log("part finished", path=name)

    def note(self, message: str, **details: Any) -> None:
        write_log(message, **details)
        self.send({"type": "note", "message": message, "details": details})


def read_request(path: Path, *, secrets: dict[str, str] | None = None) -> StageRequest:
    """Read the supervisor's request file."""
    data = read_json(path)
    folders: dict[str, dict[str, Path]] = {
        name: {key: Path(value) for key, value in data["inputs"][name].items()}
        for name in ("steps", "files", "models")
    }
    cache, private_cache = (data["inputs"].get(name) for name in ("capture_cache", "private_hub_cache"))
    inputs = StageInputs(
        subject=data["subject"],
        steps=folders["steps"],
        files=folders["files"],
        models=folders["models"],
        capture_cache=None if cache is None else Path(cache),
        num_batch_halvings=data.get("num_batch_halvings", 0),
        secrets=secrets or {},
        private_hub_cache=None if private_cache is None else Path(private_cache),
    )
    return StageRequest(
        stage=data["stage"],
        spec=FusionSpec.model_validate(data["spec"]),
        inputs=inputs,
        out_dir=Path(data["out_dir"]),
    )


def run_request(path: Path, *, events_descriptor: int, secrets_descriptor: int | None = None) -> int:
    """Run the requested stage, report over the pipe, and return the exit code."""
    die_with_parent()
    if not has_reader(events_descriptor):
        sys.exit("the supervisor ended before the stage began")
    secrets = {} if secrets_descriptor is None else receive_secrets(secrets_descriptor)
    events = EventPipe(events_descriptor, path.parent)
    try:
        request = read_request(path, secrets=secrets)
        events = EventPipe(events_descriptor, request.out_dir)
        write_log("stage began", stage=request.stage, subject=request.inputs.subject)
        report = run_stage(request.stage, request.spec, request.inputs, request.out_dir, progress=events)
    except Exception as error:  # noqa: BLE001 - the border of the process: every failure becomes an event
        events.send({"type": "error", **as_fusion_error(error).to_dict()})
        # Last, because the disk that the log is on may be what is full.
        with suppress(OSError):
            traceback.print_exc(file=sys.stderr)
        return 1
    write_log("stage finished")
    failpoint("stage.finished")
    events.send({"type": "report", "figures": report.figures})
    return 0


def receive_secrets(descriptor: int) -> dict[str, str]:
    """Read the supervisor's secrets to their end. A crash leaves no image of the memory they are in."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(descriptor, "rb") as pipe:
        received: dict[str, str] = json.loads(pipe.read())
    return received


def write_log(message: str, **details: Any) -> None:
    """A line of the attempt's log: time, level, what happened."""
    facts = f" {json.dumps(details, default=str)}" if details else ""
    # The disk that the log is on may be full, which is no reason to fail.
    with suppress(OSError):
        sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} INFO {message}{facts}\n")
        sys.stderr.flush()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its supervisor dies, so that no attempt outlives its lease."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def has_reader(descriptor: int) -> bool:
    """Whether anybody can still hear what is written to a pipe: nobody when the supervisor is dead."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(found & select.POLLERR for _, found in poll.poll(0))


def as_fusion_error(error: Exception) -> FusionError:
    """Any failure as an error of ours: what the user can act on keeps its meaning, the rest is internal."""
    if isinstance(error, FusionError):
        return error
    if is_out_of_memory(error):
        return out_of_memory(f"out of memory: {error}")
    if is_disk_full(error):
        return CapacityError(
            f"the disk is full: {error}",
            code="insufficient_disk",
            hint="free space in the worker's data folder and retry",
        )
    return InternalError(
        f"{type(error).__name__}: {error}",
        code="internal",
        hint="the log of the attempt has the details",
        fingerprint=fingerprint(error),
    )


def fingerprint(error: BaseException) -> str:
    """The same for the same kind of error raised at the same place, whatever its message says."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.name}:{frame.lineno}" for frame in frames]
    return hashlib.sha256("\n".join([type(error).__name__, *places]).encode()).hexdigest()[:16]
