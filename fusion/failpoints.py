"""Named places where a test makes a process die, freeze, fail or wait.

Inert unless the environment names a folder in FAILPOINTS_DIR. A file there with the name of a place arms
it. Its text says what happens: `kill`, `stop` (freeze until SIGCONT), `sleep SECONDS` or `raise ERRNO`,
each with an optional ` after N` to let N passes go. The first process that gets there takes the file away:
one arming is one fault, however many processes there are and however often they restart.
"""

import errno
import os
import signal
import time
from pathlib import Path

_FOLDER_VARIABLE = "FAILPOINTS_DIR"
FIRED_SUFFIX = ".fired"


def failpoint(name: str) -> None:
    """A place that a test may arm.

    Raises:
        OSError: the one that the test asked for.
    """
    folder = os.environ.get(_FOLDER_VARIABLE)
    if folder is not None:
        _pass(Path(folder) / name)


def _pass(armed: Path) -> None:
    taken = armed.with_name(f"{armed.name}.{os.getpid()}{FIRED_SUFFIX}")
    try:
        armed.rename(taken)
    except FileNotFoundError:
        return
    action, _, passes = taken.read_text(encoding="ascii").partition(" after ")
    if int(passes or 0) > 0:
        taken.write_text(f"{action} after {int(passes) - 1}", encoding="ascii")
        taken.rename(armed)
        return
    _act(*action.split())


def _act(action: str, argument: str = "") -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(float(argument))
        case "raise":
            number = getattr(errno, argument)
            raise OSError(number, os.strerror(number))
        case _:
            raise ValueError(f"a failpoint cannot {action!r}")
