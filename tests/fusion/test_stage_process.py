"""One stage in a process of its own: events over a pipe, exit codes, and death with the supervisor."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from fusion.errors import CorpusInvalid
from fusion.stage_process import EventPipe, as_fusion_error
from tests.support.tiny_jobs import save_models, tiny_spec, write_corpus


def run_request(
    request: dict[str, Any], folder: Path, *, log: Path | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Run `python -m fusion stage` as a supervisor does; returns exit code and events."""
    (folder / "request.json").write_text(json.dumps(request))
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-m",
        "fusion",
        "stage",
        str(folder / "request.json"),
        "--events-fd",
        str(writer),
    ]
    with ExitStack() as held:
        output = None if log is None else held.enter_context(log.open("ab"))
        process = subprocess.Popen(
            command, pass_fds=(writer,), start_new_session=True, stdout=output, stderr=output
        )
    os.close(writer)
    with os.fdopen(reader) as lines:
        events = [json.loads(line) for line in lines]
    return process.wait(), events


def prepare_request(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    inputs: dict[str, dict[str, str]] = {"steps": {}, "files": {}, "models": {}}
    return {
        "stage": "prepare",
        "subject": None,
        "spec": spec,
        "inputs": inputs,
        "out_dir": str(folder / "out"),
    }


def test_a_stage_reports_over_the_pipe(tmp_path: Path) -> None:
    spec = tiny_spec(save_models(tmp_path / "models"), write_corpus(tmp_path / "corpus.jsonl"))
    code, events = run_request(prepare_request(tmp_path, spec), tmp_path)
    assert code == 0
    assert events[-1]["type"] == "report"
    assert {event["type"] for event in events} <= {"progress", "metrics", "part", "note", "report"}
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_a_user_mistake_is_an_error_event_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": "fine"}\n{"text": "broken\n')
    spec = tiny_spec(save_models(tmp_path / "models"), tmp_path / "corpus.jsonl")
    code, events = run_request(prepare_request(tmp_path, spec), tmp_path)
    assert code == 1
    error = events[-1]
    assert (error["type"], error["category"], error["code"]) == ("error", "user", "corpus_broken_line")
    assert "line 2" in error["message"]
    assert error["hint"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_log_on_a_full_disk_hides_no_error(tmp_path: Path) -> None:
    spec = tiny_spec({name: tmp_path / name for name in ("target", "mpt", "prose")}, tmp_path / "nowhere")

    code, events = run_request(prepare_request(tmp_path, spec), tmp_path, log=Path("/dev/full"))

    assert code == 1
    assert (events[-1]["type"], events[-1]["category"]) == ("error", "user")


def test_events_are_whole_lines(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    pipe = EventPipe(writer, tmp_path)
    pipe.update(3, 10, unit="steps", tokens=70)
    pipe.part_finished(tmp_path / "checkpoints" / "step-00000002")
    pipe.note("a line\nbreak", reason="é")
    os.close(writer)
    with os.fdopen(reader) as lines:
        events = [json.loads(line) for line in lines]
    assert events[0] == {"type": "progress", "done": 3, "total": 10, "unit": "steps", "tokens": 70}
    assert events[1]["path"] == "checkpoints/step-00000002"
    assert events[2]["message"] == "a line\nbreak"


@pytest.mark.parametrize(
    ("error", "category", "code"),
    [
        (CorpusInvalid("empty", code="corpus_empty"), "user", "corpus_empty"),
        (torch.OutOfMemoryError("CUDA out of memory"), "capacity", "out_of_memory"),
        (MemoryError(), "capacity", "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "capacity", "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "capacity", "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "capacity", "out_of_memory"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "capacity", "insufficient_disk"),
        (OSError(errno.ENOSPC, "No space left on device"), "capacity", "insufficient_disk"),
        (OSError(errno.EIO, "I/O error"), "internal", "internal"),
        (KeyError("x"), "internal", "internal"),
    ],
)
def test_failures_keep_their_meaning(error: Exception, category: str, code: str) -> None:
    found = as_fusion_error(error)
    assert (found.category, found.code) == (category, code)


def test_a_stage_whose_supervisor_died_before_it_could_begin_does_not_begin(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [
        sys.executable,
        "-m",
        "fusion",
        "stage",
        str(tmp_path / "no request"),
        "--events-fd",
        str(writer),
    ]

    stage = subprocess.run(
        command, check=False, pass_fds=[writer], capture_output=True, text=True, timeout=60
    )
    os.close(writer)

    assert stage.returncode == 1
    assert "the supervisor ended before the stage began" in stage.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_stage_dies_with_its_supervisor() -> None:
    child = (
        "import time; from fusion.stage_process import die_with_parent\n"
        "die_with_parent(); print('up', flush=True); time.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, '-c', {child!r}]\n"
        "process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)\n"
        "process.stdout.readline(); print(process.pid, flush=True); time.sleep(60)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    stage_pid = int(supervisor.stdout.readline())
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    deadline = time.monotonic() + 10
    while is_running(stage_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(stage_pid)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_the_same_mistake_has_the_same_fingerprint() -> None:
    def stumble(message: str) -> None:
        raise KeyError(message)

    def trip(message: str) -> None:
        raise KeyError(message)

    def fingerprint_of(function: Callable[[str], None], message: str) -> str | None:
        try:
            function(message)
        except KeyError as error:
            return as_fusion_error(error).to_dict()["fingerprint"]
        return None

    assert fingerprint_of(stumble, "a") == fingerprint_of(stumble, "b")
    assert fingerprint_of(stumble, "a") != fingerprint_of(trip, "a")
