"""Starts a process of the service with the stand-in for the engine, and with a safeguard taken out on demand.

    python -m tests.faults.entry worker | celery | housekeeper | api PORT

FAULTS_CONTROL names the safeguard that is missing (see `tests.faults.controls`).
"""

import os
import sys

from tests.faults.controls import CONTROL_VARIABLE, take_out


def main() -> None:
    role, *arguments = sys.argv[1:]
    control = os.environ.get(CONTROL_VARIABLE)
    if control and (control != "late_acknowledge" or role == "celery"):
        take_out(control)
    {"worker": _worker, "celery": _celery, "housekeeper": _housekeeper, "api": _api}[role](*arguments)


def _use_hash_chain() -> None:
    from workers import worker

    worker.default_command = lambda: [sys.executable, "-m", "tests.faults.hash_chain"]


def _worker() -> None:
    _use_hash_chain()
    from workers.__main__ import main as work

    sys.argv = ["workers"]
    work()


def _celery() -> None:
    _use_hash_chain()
    from workers.celery_app import app

    app.worker_main(["worker", "-Q", "cpu,gpu", "--loglevel", "WARNING", "-n", f"w{os.getpid()}@%h"])


def _housekeeper() -> None:
    from app.logs import configure_logs
    from app.operations.housekeeping import keep_house
    from app.settings import load_settings

    settings = load_settings()
    configure_logs(settings.log_level)
    keep_house(settings)


def _api(port: str) -> None:
    import uvicorn

    uvicorn.run("app.main:create_app", factory=True, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
