"""`python -m workers`: a worker that polls. `fusion worker` and `fusion serve` start it."""

import argparse
import ctypes
import os
import signal
import sys
from typing import get_args

from app.jobs.claims import Resource
from app.logs import configure_logs
from app.settings import load_settings
from fusion.errors import UserError
from workers.poll_loop import poll
from workers.worker import Worker, create_worker

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read the options, then work until SIGTERM or Ctrl-C: the running step is given back."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument(
        "--queue", action="append", choices=get_args(Resource), help="what to work on; all when not given"
    )
    parser.add_argument("--parent", type=int, help="drain when the process with this id ends")
    options = parser.parse_args()
    if options.parent is not None:
        _drain_with_parent(options.parent)
    try:
        settings = load_settings()
    except UserError as error:
        sys.exit(f"error: {error.code}: {error.message}\n  {error.hint}")
    configure_logs(settings.log_level)
    worker = create_worker(settings, resources=tuple(options.queue or get_args(Resource)))
    _drain_on_signals(worker)
    poll(worker)


def _drain_on_signals(worker: Worker) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.drain.set())


def _drain_with_parent(parent: int) -> None:
    """Let the kernel send SIGTERM when the parent dies, also when it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent ended before the worker began")


if __name__ == "__main__":
    main()
