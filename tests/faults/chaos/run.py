"""One chaos run: faults from a seed while a crowd of clients works, then peace, then judgement."""

import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.chaos.faults import (
    EVERYWHERE,
    WITH_SERVERS,
    Undo,
    remove_small_disk,
    small_disk,
)
from tests.faults.crowd import Crowd
from tests.faults.history import ClientLog, Verdict, check_history
from tests.faults.service import Profile, Service, running_service, wait_for

PAUSE_SECONDS = (0.5, 2.5)
RESTART_SECONDS = (0.1, 1.5)
DISK_BYTES = 200_000_000
SETTLE_SECONDS = 300.0
NUM_OPEN_JOBS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ChaosReport:
    """What happened, and how it was judged."""

    profile: Profile
    seed: int
    seconds: float
    faults: Counter[str]
    verdict: Verdict
    log: ClientLog
    unexpected: list[str]
    num_stale_refused: int
    settle_seconds: float

    @property
    def is_clean(self) -> bool:
        return self.verdict.num_jobs > 0 and not self.verdict.violations and not self.unexpected


def run_chaos(
    folder: Path, profile: Profile, *, seed: int, seconds: float, control: str | None = None
) -> ChaosReport:
    """Run it. The same seed makes the same choices; what they meet depends on the machine."""
    data = folder / "data"
    has_disk = small_disk(data, num_bytes=DISK_BYTES)
    servers = {"num_celery_workers": 2, "num_workers": 1} if profile == "postgresql" else {"num_workers": 3}
    try:
        with running_service(
            folder, profile, **servers, num_housekeepers=2, with_proxies=True, control=control
        ) as service:
            crowd = Crowd(service, seed=seed, num_open=NUM_OPEN_JOBS)
            crowd.start()
            faults = _torment(service, random.Random(seed), profile, seconds=seconds)
            crowd.stop()
            settled = crowd.settle(seconds=SETTLE_SECONDS, keep_alive=service.restart_dead)
            for process in service.processes.values():
                process.stop()
            return ChaosReport(
                profile=profile,
                seed=seed,
                seconds=seconds,
                faults=faults,
                verdict=check_history(service.engine, service.store, crowd.log),
                log=crowd.log,
                unexpected=crowd.unexpected,
                num_stale_refused=len(re.findall("step_lost", service.log_text())),
                settle_seconds=settled,
            )
    finally:
        if has_disk:
            remove_small_disk(data)


def _torment(service: Service, rng: random.Random, profile: Profile, *, seconds: float) -> Counter[str]:
    """Do harm until the time is over, then undo all of it; how often each fault was done."""
    kinds = WITH_SERVERS if profile == "postgresql" else EVERYWHERE
    names, weights = list(kinds), [weight for _, weight in kinds.values()]
    done: Counter[str] = Counter()
    # By fault: one kind at a time, so that nothing is undone by another fault's end.
    under_way: dict[str, tuple[float, Undo]] = {}
    dead_until: dict[str, float] = {}
    end = time.monotonic() + seconds
    next_fault = time.monotonic()
    while (now := time.monotonic()) < end:
        if now >= next_fault:
            (name,) = rng.choices(names, weights)
            next_fault = now + rng.uniform(*PAUSE_SECONDS)
            if name not in under_way:
                begun = kinds[name][0](service, rng)
                done[name] += begun is not None
                if begun is not None and begun.undo is not None:
                    under_way[name] = (now + begun.after_seconds, begun.undo)
        for name, (due, undo) in list(under_way.items()):
            if now >= due:
                del under_way[name]
                undo()
        _restart(service, rng, dead_until, now=now)
        time.sleep(0.05)
    for _, undo in under_way.values():
        undo()
    for armed in service.failpoints.iterdir():
        if not armed.name.endswith(".fired"):
            armed.unlink(missing_ok=True)
    wait_for(lambda: not service.restart_dead(), what="every process")
    return done


def _restart(service: Service, rng: random.Random, dead_until: dict[str, float], *, now: float) -> None:
    """Start again what died, a moment later, as a supervisor does."""
    for name, process in service.processes.items():
        if process.is_running:
            dead_until.pop(name, None)
        elif now >= dead_until.setdefault(name, now + rng.uniform(*RESTART_SECONDS)):
            process.start()
