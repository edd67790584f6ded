"""A secret goes to the hub and nowhere else: planted, used, and looked for everywhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import Engine, select, update

from app.accounts.bootstrap import ensure_admin_key
from app.db.base import Base
from app.db.models import Attempt, Secret
from app.db.session import read_only, transaction
from app.main import create_app
from fusion.io.hub_cache import list_revisions
from tests.support.private_hub import PrivateHub, private_hub
from tests.support.tiny_jobs import write_corpus
from tests.support.tiny_models import save_tiny_checkpoint
from tests.workers.conftest import Workshop
from workers.hub_cache import prune_hub_cache
from workers.step_runner import run_one

LOUD_STAGE = """
import os
from fusion import stage_process
receive = stage_process.receive_secrets
def receive_and_tell(descriptor):
    secrets = receive(descriptor)
    for value in secrets.values():
        os.write(2, f"native code says {value}\\n".encode())
    return secrets
stage_process.receive_secrets = receive_and_tell
from fusion.__main__ import main
main()
"""
"""The stage itself, with a library in its process that writes what it was given to a file descriptor."""
CANARY = "hf_canaryThatShallNotBeSeen0123456789"
WRONG = "hf_wrongCanaryThatShallNotBeSeen01234"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass(kw_only=True)
class Scene:
    """A service, its worker, a hub, and everything that was answered."""

    workshop: Workshop
    client: TestClient
    hub: PrivateHub
    answers: list[Response] = field(default_factory=list)
    seen_while_running: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **given: Any) -> Any:
        answer = self.client.request(method, path, **given)
        self.answers.append(answer)
        return answer.json()

    def submit(self, *, secret: str) -> dict[str, Any]:
        model = {"hub": "org/private", "revision": REVISION, "secret": secret}
        corpus = write_corpus(self.workshop.root / "corpus.jsonl", num_documents=8)
        spec = {
            "api_version": "fusion/v1",
            "sources": [{"name": "source", "model": {"path": str(self.workshop.root / "source")}}],
            "target": {"model": model},
            "corpus": {"files": [{"path": str(corpus)}], "max_tokens_per_window": 64},
        }
        job: dict[str, Any] = self.ask("POST", "/v1/jobs", json=spec)
        return job

    @contextmanager
    def acting_for_another_project(self) -> Iterator[None]:
        self.client.headers["OpenAI-Project"] = self.ask("POST", "/v1/projects", json={"name": "other"})["id"]
        yield
        del self.client.headers["OpenAI-Project"]

    def look_at_processes(self) -> None:
        """While the stage talks to the hub: what the kernel and the disk tell of it."""
        for folder in Path("/proc").glob("[0-9]*"):
            for name in ("environ", "cmdline"):
                try:
                    data = (folder / name).read_bytes()
                except OSError:
                    continue
                if CANARY.encode() in data or WRONG.encode() in data:
                    self.seen_while_running.append(f"{folder}/{name}")
        self.seen_while_running += files_with_canaries(self.workshop.root)


@pytest.fixture
def scene(
    make_workshop: Callable[..., Workshop],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    """A real stage on a worker, whose machine has no login of its own at the hub."""
    made = make_workshop(lease_seconds=10, heartbeat_seconds=0.2)
    command = (sys.executable, "-c", LOUD_STAGE, "stage")
    workshop = replace(made, worker=replace(made.worker, stage_command=command))
    settings = workshop.worker.settings
    app = create_app(settings)
    key = ensure_admin_key(app.state.engine, path=tmp_path / "admin.key", pepper=app.state.key_pepper)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    folder = save_tiny_checkpoint(tmp_path / "checkpoint")
    save_tiny_checkpoint(tmp_path / "source", family="mpt", tokenizer="mpt_like", seed=1)
    with private_hub(PrivateHub(token=CANARY, folders={"org/private": folder})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
        found = Scene(workshop=workshop, client=client, hub=hub)
        hub.on_request = found.look_at_processes
        yield found
    app.state.engine.dispose()


def test_a_secret_goes_to_the_hub_and_nowhere_else(
    scene: Scene, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    body = {"name": "token", "value": CANARY}
    scene.ask("POST", "/v1/secrets", json=body, headers={"Idempotency-Key": "k"})
    scene.ask("POST", "/v1/secrets", json=body)
    scene.ask("POST", "/v1/secrets", json={"name": "x", "value": f"{CANARY} with a space"})
    scene.ask("POST", "/v1/secrets", json={"name": "y", "value": CANARY * 40, "more": CANARY})
    good = scene.submit(secret="token")
    run_one(scene.workshop.worker)
    scene.ask("POST", f"/v1/jobs/{good['id']}/pause")
    # Another project names the same commit, with a token that does not open it.
    with scene.acting_for_another_project():
        scene.ask("POST", "/v1/secrets", json={"name": "token", "value": WRONG})
        bad = scene.submit(secret="token")
        run_one(scene.workshop.worker)
        for path in every_page(bad["id"]):
            scene.ask("GET", path)

    steps = scene.workshop.steps(good["id"])
    assert steps["prepare"].status == "succeeded", steps["prepare"].error
    assert scene.workshop.steps(bad["id"])["prepare"].status == "queued"
    assert "cannot let Bearer [secret] in" in error_of(scene, bad["id"])["message"]
    assert {CANARY, WRONG} <= scene.hub.tokens_seen
    given = [
        event for event in scene.workshop.events(good["id"]) if event.message == "prepare is given secrets"
    ]
    assert [event.details for event in given] == [{"names": ["token"]}]
    assert "native code says [secret]" in scene.workshop.log(good["id"])
    assert scene.seen_while_running == []
    for path in every_page(good["id"]):
        scene.ask("GET", path)
    assert [answer.status_code for answer in scene.answers if answer.is_server_error] == []
    assert not any(CANARY in answer.text or WRONG in answer.text for answer in scene.answers)
    assert canaries_in_database(scene.workshop.worker.engine) == []
    assert files_with_canaries(tmp_path) == []
    printed = "".join(capfd.readouterr())
    assert "attempt_ended" in printed
    assert CANARY not in printed
    assert WRONG not in printed


def error_of(scene: Scene, job_id: str) -> dict[str, Any]:
    """How the only attempt at a job failed."""
    with read_only(scene.workshop.worker.engine) as session:
        error = session.scalars(select(Attempt.error).where(Attempt.job_id == job_id)).one()
    assert error is not None
    return error


def every_page(job_id: str) -> list[str]:
    of_job = [f"/v1/jobs/{job_id}{rest}" for rest in ("", "/events", "/steps", "/attempts")]
    return ["/v1/secrets", "/v1/audit_events", "/v1/jobs", "/v1/artifacts", *of_job]


def canaries_in_database(engine: Engine) -> list[str]:
    with read_only(engine) as session:
        return [
            f"{table.name}: {row}"
            for table in Base.metadata.sorted_tables
            for row in session.execute(select(table))
            if CANARY in str(row) or WRONG in str(row)
        ]


def test_a_deleted_secret_fails_the_step_that_needs_it_and_a_new_one_of_its_name_mends_it(
    scene: Scene,
) -> None:
    secret = scene.ask("POST", "/v1/secrets", json={"name": "token", "value": CANARY})
    job = scene.submit(secret="token")
    scene.ask("DELETE", f"/v1/secrets/{secret['id']}")

    run_one(scene.workshop.worker)
    failed = scene.ask("GET", f"/v1/jobs/{job['id']}")
    scene.ask("POST", "/v1/secrets", json={"name": "token", "value": CANARY})
    scene.ask("POST", f"/v1/jobs/{job['id']}/retry")
    run_one(scene.workshop.worker)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "secret_not_found")
    assert failed["error"]["pointer"] == "/target/model/secret"
    assert scene.workshop.steps(job["id"])["prepare"].status == "succeeded"


def test_a_private_model_in_use_outlasts_any_pruning_and_goes_afterwards(scene: Scene) -> None:
    scene.ask("POST", "/v1/secrets", json={"name": "token", "value": CANARY})
    job = scene.submit(secret="token")
    greedy = scene.workshop.worker.settings.model_copy(update={"max_hub_cache_bytes": 0})
    pruned = []
    scene.hub.on_request = lambda: pruned.append(prune_hub_cache(greedy))

    run_one(scene.workshop.worker)
    caches = list(greedy.hub_cache_dir.iterdir())
    kept = [revision.commit for revision in list_revisions(caches)]
    prune_hub_cache(greedy)

    assert scene.workshop.steps(job["id"])["prepare"].status == "succeeded"
    assert (len(pruned) > 2, kept) == (True, [REVISION])
    assert list_revisions(caches) == []


def test_a_secret_that_was_moved_to_another_project_does_not_open(scene: Scene) -> None:
    scene.ask("POST", "/v1/secrets", json={"name": "token", "value": CANARY})
    with scene.acting_for_another_project():
        with transaction(scene.workshop.worker.engine) as session:
            session.execute(update(Secret).values(project_id=scene.client.headers["OpenAI-Project"]))
        job = scene.submit(secret="token")

    run_one(scene.workshop.worker)

    assert scene.hub.tokens_seen == set()
    reasons = [event.details.get("reason") for event in scene.workshop.events(job["id"])]
    assert "sealed_secret_damaged" in reasons


def files_with_canaries(root: Path) -> list[str]:
    """Files below `root` that hold one, whatever they are."""
    found = []
    for path in root.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if CANARY.encode() in data or WRONG.encode() in data:
            found.append(str(path))
    return found
