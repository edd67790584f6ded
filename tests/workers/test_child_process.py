"""A child process is heard, ended with its family, and found again by whoever cleans up."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from fusion.errors import InternalError
from workers.child_process import ChildProcess, Event, started
from workers.scrubbing import Scrubber
from workers.stage_output import StageOutput

TALK = """
import os, sys
descriptor = int(sys.argv[-1])
os.write(descriptor, b'{"type": "note", "mess')
os.write(descriptor, b'age": "one"}\\n{"type": "report", "figures": {}}\\n')
print("printed")
"""
LEAK = """
import ctypes, json, os, subprocess, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
secret = json.loads(os.read(int(given["--secrets-fd"]), 9999))["token"]
print("printed", secret, flush=True)
os.write(2, f"cut {secret[:9]}".encode())
os.write(2, f"{secret[9:]} here\\n".encode())
ctypes.CDLL(None).dprintf(1, b"native %s\\n", secret.encode())
subprocess.run(["echo", "child", secret])
note = json.dumps({"type": "note", "message": f"sent {secret}"})
os.write(int(given["--events-fd"]), f"{note}\\n".encode())
os.write(2, secret.encode())
"""
LOOK_AROUND = """
import json, os, sys
descriptor = int(sys.argv[-1])
found = {"names": sorted(os.environ), "open": len(os.listdir("/proc/self/fd")) - 1}
os.write(descriptor, json.dumps({"type": "report", "figures": found}).encode() + b"\\n")
"""
KEYS_OF_THE_SERVICE = (
    "FUSION_DATABASE_URL", "FUSION_BROKER_URL", "FUSION_SEALING_KEY", "CELERY_BROKER_URL", "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_KEY",
)  # fmt: skip
CANARY = "hf_canaryThatShallNotBeSeen0123456789"


def listen(child: ChildProcess) -> list[Event]:
    events: list[Event] = []
    while not child.has_exited:
        events += child.wait_for_events(1.0)
    return events + child.read_events()


def run(
    code: str, folder: Path, *, secrets: dict[str, str] | None = None, log: Path | None = None
) -> tuple[list[Event], int]:
    request, log = folder / "request.json", log or folder / "log.txt"
    request.write_text("{}")
    command = [sys.executable, "-c", code]
    with started(command, request=request, log=log, secrets=secrets) as child:
        events = listen(child)
        return events, child.kill()


def test_events_arrive_whole_and_output_goes_to_the_log(tmp_path: Path) -> None:
    events, status = run(TALK, tmp_path)

    assert events == [{"type": "note", "message": "one"}, {"type": "report", "figures": {}}]
    assert status == 0
    assert (tmp_path / "log.txt").read_text() == "printed\n"


def test_a_stage_finds_no_way_to_database_broker_and_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS_OF_THE_SERVICE:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example.com")
    with (tmp_path / "fusion.db").open("w"):
        ((event,), status) = run(LOOK_AROUND, tmp_path)

    assert status == 0
    assert set(KEYS_OF_THE_SERVICE).isdisjoint(event["figures"]["names"])
    assert {"HF_ENDPOINT", "PATH"} <= set(event["figures"]["names"])
    # Input, output, errors and the pipe for events.
    assert event["figures"]["open"] == 4


def test_no_secret_comes_out_whoever_writes_it(tmp_path: Path) -> None:
    events, status = run(LEAK, tmp_path, secrets={"token": CANARY})

    assert (status, events) == (0, [{"type": "note", "message": "sent [secret]"}])
    log = "printed [secret]\ncut [secret] here\nnative [secret]\nchild [secret]\n[secret]"
    assert (tmp_path / "log.txt").read_text() == log


def test_a_full_disk_costs_the_log_and_not_the_stage(tmp_path: Path) -> None:
    flood = "import sys; print('x' * 1_000_000)"

    assert run(flood, tmp_path, log=Path("/dev/full"))[1] == 0


def test_output_that_a_runaway_holds_open_is_not_waited_for(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with StageOutput(reader, tmp_path / "log.txt", Scrubber([])):
        os.write(writer, b"before")

    os.close(writer)
    os.close(reader)
    assert (tmp_path / "log.txt").read_bytes() == b"before"


@pytest.mark.parametrize("line", [b"text\\n", b"[1]\\n", b'{"no": "type"}\\n'])
def test_a_line_that_is_no_event_is_refused(tmp_path: Path, line: bytes) -> None:
    code = f"import os, sys; os.write(int(sys.argv[-1]), b'{line.decode()}')"
    with pytest.raises(InternalError, match="no event"):
        run(code, tmp_path)


def test_the_status_of_a_signal_is_negative(tmp_path: Path) -> None:
    assert run("import os; os.kill(os.getpid(), 11)", tmp_path)[1] == -11


def test_members_are_found_also_in_other_sessions(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
time.sleep(60)
"""
    with started([sys.executable, "-c", code], request=tmp_path / "r", log=tmp_path / "log") as child:
        deadline = time.monotonic() + 10
        while len(child.members()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        members = child.members()
        child.kill()

    assert len(members) == 2
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in members)


def test_a_command_that_does_not_exist_raises_and_leaks_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    with (
        pytest.raises(FileNotFoundError),
        started(["/no/such/program"], request=tmp_path / "r", log=tmp_path / "log"),
    ):
        pass

    assert len(list(Path("/proc/self/fd").iterdir())) == before
