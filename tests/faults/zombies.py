"""Attempts that come back from the dead and try everything they once might do.

    python -m tests.faults.zombies DATABASE_URL [--num 2000]

Every zombie held a step, fell silent until the reconciler gave the step to another worker, and then writes at
the same moment as that one: its end in every form, progress, metrics, notes, artifacts and a heartbeat.
"""

import argparse
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine

from app.artifacts.kinds import ArtifactKind
from app.artifacts.manifest import FolderManifest
from app.artifacts.service import Origin, StoredFolder, record_artifact
from app.db.migrate import upgrade
from app.db.session import create_engine, in_transaction, transaction
from app.jobs import service as jobs
from app.jobs.lifecycle import Instruction
from app.storage.opening import open_store
from fusion.errors import CorpusInvalid
from tests.app.jobs import builders as given

USER_ERROR = CorpusInvalid("line 3 is not JSON", code="json_broken").to_dict()
Write = Callable[[Engine, jobs.ClaimedStep], bool]


def _call(function: Callable[..., Any], **values: Any) -> Write:
    def write(engine: Engine, step: jobs.ClaimedStep) -> bool:
        answer = in_transaction(engine, function, step_id=step.step_id, attempt=step.attempt, **values)
        return answer is not Instruction.LOST and bool(answer)

    return write


def _store(engine: Engine, step: jobs.ClaimedStep) -> bool:
    origin = Origin(
        project_id=step.project_id,
        job_id=step.job_id,
        step_id=step.step_id,
        attempt=step.attempt,
        kind=ArtifactKind.CHECKPOINT,
        role="parts/zombie",
    )
    manifest = FolderManifest(format_version=1, kind="part", files=())
    stored = StoredFolder(manifest=manifest, files=())
    with transaction(engine) as session:
        return record_artifact(session, open_store("memory://"), stored, origin=origin) is not None


WRITES: dict[str, Write] = {
    "complete": _call(jobs.complete_step, artifact_id="art-zombie", figures={}),
    "fail": _call(jobs.fail_step, error=USER_ERROR),
    "lose": _call(jobs.lose_step, error=USER_ERROR),
    "release": _call(jobs.release_step, reason="drain"),
    "cancel": _call(jobs.confirm_cancelled),
    "heartbeat": _call(jobs.heartbeat, lease_seconds=60),
    "progress": _call(jobs.record_progress, done=1.0, total=2.0, unit="steps", tokens=None),
    "metrics": _call(jobs.record_metrics, points=[(1, {"loss": 1.0})]),
    "note": _call(jobs.record_note, message="boo", details={}),
    "artifact": _store,
}


def raise_zombies(engine: Engine, *, num: int, seed: int) -> tuple[Counter[str], Counter[str], int]:
    """Raise them; writes refused, writes accepted, and how often a live attempt was hindered."""
    rng = random.Random(seed)
    refused: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    num_hindered = 0
    project_id = given.make_project(engine, name=f"zombies-{seed}")
    with ThreadPoolExecutor(2) as pool:
        for number in range(num):
            job = given.submit(engine, project_id, name=f"job-{number}")
            zombie = given.claim(engine, worker_id="zombie")
            given.expire_lease(engine, zombie.step_id)
            in_transaction(engine, jobs.reconcile)
            living = given.claim(engine, worker_id="living")
            assert (living.step_id, living.attempt) == (zombie.step_id, zombie.attempt + 1)
            name = rng.choice(sorted(WRITES))
            barrier = threading.Barrier(2)

            def at_once(write: Write, step: jobs.ClaimedStep, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                return write(engine, step)

            boo = pool.submit(at_once, WRITES[name], zombie)
            done = pool.submit(at_once, WRITES["complete"], living)
            (accepted if boo.result() else refused)[name] += 1
            num_hindered += not done.result()
            in_transaction(engine, jobs.request_cancel, project_id=project_id, job_id=job.id)
    return refused, accepted, num_hindered


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.zombies", description=__doc__)
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    upgrade(options.url)
    refused, accepted, num_hindered = raise_zombies(
        create_engine(options.url), num=options.num, seed=options.seed
    )
    print(
        f"seed {options.seed}: {options.num} zombies, {refused.total()} refused, {accepted.total()} accepted"
    )
    print("  by write:", dict(sorted(refused.items())), "accepted:", dict(accepted))
    print(f"  live attempts hindered: {num_hindered}")
    sys.exit(1 if accepted or num_hindered else 0)


if __name__ == "__main__":
    main()
