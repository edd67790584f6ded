"""Stand-ins for the engine: tiny programs that speak the child protocol, well or badly.

    python children.py BEHAVIOUR REQUEST --events-fd N

No torch, so that a test takes fractions of a second.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fusion.io.end_request import asked_to_end
from fusion.io.manifest import write_manifest


def main() -> None:
    behaviour, request_path, _, descriptor = sys.argv[1:]
    request = json.loads(Path(request_path).read_text())
    behave = globals()[f"_{behaviour}"]
    sys.exit(behave(request, lambda **event: os.write(int(descriptor), (json.dumps(event) + "\n").encode())))


def _work(request: dict[str, Any], say: Any) -> int:
    """A whole stage: progress, a metric, a part, a note, an output, a report."""
    print("working")
    out = Path(request["out_dir"])
    say(type="progress", done=1, total=2, unit="windows", tokens=10)
    say(type="metrics", step=1, values={"loss": 2.5})
    part = out / "parts" / "one"
    part.mkdir(parents=True, exist_ok=True)
    (part / "data.txt").write_text("part")
    write_manifest(part, kind="part")
    say(type="part", path="parts/one")
    say(type="note", message="went well", details={"rows": 3})
    (out / "result.txt").write_text(f"{request['stage']} saw {sorted(request['inputs']['steps'])}")
    write_manifest(out, kind="thing", files=["result.txt"])
    say(type="report", figures={"answer": 42})
    return 0


def _user_error(request: dict[str, Any], say: Any) -> int:
    say(
        type="error",
        code="corpus_empty",
        category="user",
        message="the corpus holds no document",
        hint="add text",
        pointer="/corpus/files/0",
        retryable=False,
    )
    return 1


def _silent_end(request: dict[str, Any], say: Any) -> int:
    print("something odd happened")
    return 3


def _killed(request: dict[str, Any], say: Any) -> int:
    print("about to be killed")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _glutton(request: dict[str, Any], say: Any) -> int:
    """Takes memory for ever."""
    taken = [bytearray(os.urandom(1 << 20)) for _ in itertools.count()]
    return len(taken)


def _garbage(request: dict[str, Any], say: Any) -> int:
    os.write(int(sys.argv[-1]), b"this is no event\n")
    time.sleep(60)
    return 0


def _stubborn_family(request: dict[str, Any], say: Any) -> int:
    """Ignores SIGTERM, and so does its grandchild, whose id it tells."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)"
    grandchild = subprocess.Popen([sys.executable, "-c", sleep])
    say(type="note", message="family", details={"pids": [os.getpid(), grandchild.pid]})
    say(type="progress", done=0, total=100, unit="steps", tokens=None)
    time.sleep(120)
    return 0


def _orphan(request: dict[str, Any], say: Any) -> int:
    """Succeeds and leaves a process behind."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    say(type="note", message="family", details={"pids": [grandchild.pid]})
    return _work(request, say)


def _resumable(request: dict[str, Any], say: Any) -> int:
    """Finishes one part and waits; where the part is already there, it ends well."""
    if (Path(request["out_dir"]) / "parts" / "one" / "manifest.json").is_file():
        return _work(request, say)
    part = Path(request["out_dir"]) / "parts" / "one"
    part.mkdir(parents=True)
    (part / "data.txt").write_text("part")
    write_manifest(part, kind="part")
    say(type="part", path="parts/one")
    say(type="note", message="family", details={"pids": [os.getpid()]})
    time.sleep(120)
    return 0


def _silent(request: dict[str, Any], say: Any) -> int:
    """Says who it is and then nothing for ever."""
    say(type="note", message="family", details={"pids": [os.getpid()]})
    time.sleep(120)
    return 0


def _slow_talker(request: dict[str, Any], say: Any) -> int:
    """Takes longer than it may be silent, and is never silent for so long."""
    for number in range(20):
        say(type="progress", done=number, total=20, unit="windows", tokens=None)
        time.sleep(0.25)
    return _work(request, say)


def _works_when_told(request: dict[str, Any], say: Any) -> int:
    """Waits for a file `go` beside its output, then does its work."""
    say(type="note", message="family", details={"pids": [os.getpid()]})
    while not Path(request["out_dir"]).with_name("go").exists():
        say(type="progress", done=0, total=2, unit="windows", tokens=None)
        time.sleep(0.1)
    return _work(request, say)


def _speaks_and_works_when_told(request: dict[str, Any], say: Any) -> int:
    """Prints what a stage should not, and waits."""
    print("10 %\r60 %\r100 %")
    print("Authorization: Bearer abcdefgh12345678")
    return _works_when_told(request, say)


def _tells_halvings(request: dict[str, Any], say: Any) -> int:
    write_manifest(Path(request["out_dir"]), kind="thing")
    say(type="report", figures={"num_batch_halvings": request["num_batch_halvings"]})
    return 0


def _stores_on_term(request: dict[str, Any], say: Any) -> int:
    """Works until it is asked to end, then takes a moment to store a part; with the part it ends well."""
    if (Path(request["out_dir"]) / "parts" / "one" / "manifest.json").is_file():
        return _work(request, say)
    with asked_to_end() as end_is_wanted:
        say(type="note", message="family", details={"pids": [os.getpid()]})
        while not end_is_wanted():
            time.sleep(0.05)
        time.sleep(0.5)
        part = Path(request["out_dir"]) / "parts" / "one"
        part.mkdir(parents=True)
        (part / "data.txt").write_text("part")
        write_manifest(part, kind="part")
        say(type="part", path="parts/one")
    return 1


if __name__ == "__main__":
    main()
