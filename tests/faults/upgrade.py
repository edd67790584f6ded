"""An upgrade under load, one process after another: `python -m tests.faults.upgrade REVISION`.

Everything starts from the release at the git REVISION while clients submit jobs. Then, with pauses in which
both releases work side by side: the database is migrated by the new release (old API, old workers), the API
and housekeeper are exchanged (new API, old workers), the workers are drained and exchanged, the API goes back
to the old release (a roll-back that meets new workers), and forth again. In between the broker brings a task
that no release knows. The history of all of it is judged at the end; exit code 1 when a job was lost, done
twice, wrong or never ended.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from app.db.migrate import is_current, upgrade
from app.queue import broker_settings
from tests.faults.crowd import Crowd
from tests.faults.history import check_history
from tests.faults.service import Profile, Service, running_service, wait_for
from tests.support.prepared_service import answers

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180.0


def try_upgrade(profile: Profile, old: Path, *, seconds: float) -> bool:
    """Walk through every mix of two releases, `seconds` in each; whether all went well."""
    with (
        tempfile.TemporaryDirectory(prefix="fusion-upgrade-") as folder,
        running_service(
            Path(folder) / "service",
            profile,
            num_workers=1 if profile == "postgresql" else 2,
            num_celery_workers=1 if profile == "postgresql" else 0,
            checkout=old,
        ) as service,
    ):
        crowd = Crowd(service, seed=1, num_open=4)
        crowd.start()
        for name, move in _moves(service, old):
            move()
            before = len(crowd.log.told)
            time.sleep(seconds)
            print(f"  {name:52} {len(crowd.log.told) - before} jobs accepted", flush=True)
        crowd.stop()
        settled = crowd.settle(seconds=PATIENCE_SECONDS, keep_alive=service.restart_dead)
        verdict = check_history(service.engine, service.store, crowd.log)
        print(
            f"{profile}: {verdict.num_jobs} jobs, {verdict.num_steps} steps, {verdict.num_attempts} attempts "
            f"({verdict.num_lost_attempts} lost), settled after {settled:.1f} s, "
            f"refused {dict(crowd.log.num_refused)}, violations {len(verdict.violations)}, "
            f"unexpected answers {len(crowd.unexpected)}",
            flush=True,
        )
        for text in [f"{kind}: {what}" for kind, what in verdict.violations] + crowd.unexpected:
            print(f"  {text}")
        return not verdict.violations and not crowd.unexpected


def _moves(service: Service, old: Path) -> list[tuple[str, Callable[[], None]]]:
    def migrate() -> None:
        upgrade(service.settings.database_url)
        assert is_current(service.engine)

    return [
        ("old everywhere", lambda: None),
        ("migrated; old API, old workers", migrate),
        (
            "new API and housekeeper, old workers",
            lambda: _exchange(service, ("api", "housekeeper"), CHECKOUT),
        ),
        ("a task that nobody knows", lambda: _send_unknown_task(service)),
        ("new everywhere", lambda: _exchange(service, ("worker",), CHECKOUT)),
        ("rolled back: old API, new workers", lambda: _exchange(service, ("api", "housekeeper"), old)),
        ("new everywhere", lambda: _exchange(service, ("api", "housekeeper"), CHECKOUT)),
    ]


def _exchange(service: Service, roles: tuple[str, ...], checkout: Path) -> None:
    """Stop the processes of these roles as an operator does, and start them from another checkout."""
    for name, process in service.processes.items():
        if name.startswith(roles):
            process.stop()
            process.checkout = checkout
            process.start()
    wait_for(lambda: answers(service.url), what="the API")


def _send_unknown_task(service: Service) -> None:
    if service.redis is None:
        return
    celery = Celery("another-release", broker=service.redis.url, set_as_current=False)
    celery.conf.update(broker_settings())
    for queue in ("cpu", "gpu"):
        celery.send_task("fusion.task_of_the_future", args=[1], queue=queue, ignore_result=True)


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """A source tree of the revision, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="fusion-release-") as folder:
        tree = Path(folder) / "release"
        git = ["git", "-C", str(CHECKOUT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.upgrade", description=__doc__)
    parser.add_argument("revision", help="git revision of the release to come from")
    parser.add_argument("--profile", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--seconds", type=float, default=15.0, help="in each mix of releases")
    options = parser.parse_args()
    with _checked_out(options.revision) as old:
        went_well = [
            try_upgrade(profile, old, seconds=options.seconds)
            for profile in options.profile or ("postgresql", "sqlite")
        ]
    sys.exit(0 if all(went_well) else 1)


if __name__ == "__main__":
    main()
