"""A service with a model to publish, and whoever asks it to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from huggingface_hub import constants
from sqlalchemy import Engine, update

from app.accounts.bootstrap import ensure_admin_key
from app.db.base import db_time
from app.db.models import Publication
from app.db.session import transaction
from app.main import create_app
from app.publications.destinations import Outlets
from app.publications.publisher import Publisher
from app.settings import Settings
from app.storage.store import ObjectStore, blob_key
from tests.support.stored_models import StoredModel, store_model
from tests.support.writable_hub import WritableHub, writable_hub

TOKEN = "hf_a-token-that-may-write"
REPO = {"target": "hf", "repo": "org/wise", "secret": "token"}
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "README.md": b"---\ntags: [knowledge-fusion]\n---\n# wise\n",
    "model-00001-of-00002.safetensors": bytes(range(256)) * 4096,
    # Of several parts, where a place takes parts.
    "model-00002-of-00002.safetensors": b"the other half" * 800_000,
}


@dataclass(kw_only=True)
class Publishing:
    """What a user does, and what whoever keeps house does for them."""

    client: TestClient
    engine: Engine
    store: ObjectStore
    model: StoredModel
    folder: Path
    hub: str = "http://127.0.0.1:1"
    origins: tuple[str, ...] = ()

    def ask(self, model_id: str | None = None, **destination: Any) -> Any:
        return self.client.post(f"/v1/models/{model_id or self.model.model_id}/publish", json=destination)

    def asked(self, model_id: str | None = None, **destination: Any) -> str:
        """Id of a publication that was asked for."""
        answer = self.ask(model_id, **destination)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def show(self, publication_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/publications/{publication_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def publisher(self, **options: Any) -> Publisher:
        app: Any = self.client.app
        settings: Settings = app.state.settings
        allowed = Outlets(targets=settings.publish_targets, hub=self.hub, origins=self.origins)
        return Publisher(self.engine, self.store, seals=lambda: app.state.seals, outlets=allowed, **options)

    def keep_house(self, *, pauses: Sequence[float] = (0.0, 3600.0)) -> int:
        return self.publisher(pauses=pauses).run_once()

    def publish(self, model_id: str | None = None, **destination: Any) -> dict[str, Any]:
        publication_id = self.asked(model_id, **destination)
        self.keep_house()
        return self.show(publication_id)

    def make_due(self) -> None:
        """What waiting does."""
        with transaction(self.engine) as session:
            session.execute(update(Publication).values(due_at=db_time(-1)))

    def another_model(self, name: str, files: dict[str, bytes]) -> StoredModel:
        return store_model(self.engine, self.store, write(self.folder / name, files), name=name)

    def events(self) -> list[dict[str, Any]]:
        answer = self.client.get(f"/v1/jobs/{self.model.job_id}/events")
        return [event for event in answer.json()["data"] if "publish" in event["type"]]

    def damage(self, content: bytes) -> None:
        """Put other bytes in the place of a file's."""
        manifest = self.client.get(f"/v1/models/{self.model.model_id}/manifest").json()
        path = next(path for path, data in FILES.items() if data == content)
        sha256 = next(file["sha256"] for file in manifest["files"] if file["path"] == path)
        key = blob_key(project_id=self.model.project_id, sha256=sha256)
        blob = next(self.folder.parent.rglob("storage/blobs")).parent / key
        blob.unlink()
        blob.write_bytes(content[::-1])


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def origins() -> tuple[str, ...]:
    """Servers that the operator allows."""
    return ()


@pytest.fixture
def publishing(
    settings: Settings, engine: Engine, tmp_path: Path, origins: tuple[str, ...]
) -> Iterator[Publishing]:
    app = create_app(settings.model_copy(update={"publish_origins": origins}))
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    answer = client.post("/v1/secrets", json={"name": "token", "value": TOKEN})
    assert answer.status_code == 201, answer.text
    store: ObjectStore = app.state.store
    yield Publishing(
        client=client,
        engine=engine,
        store=store,
        model=store_model(engine, store, write(tmp_path / "models" / "wise", FILES), name="wise"),
        folder=tmp_path / "models",
        origins=origins,
    )
    app.state.engine.dispose()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests must not reach a hub; those of these are on this machine."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(publishing: Publishing) -> Iterator[WritableHub]:
    with writable_hub(WritableHub(token=TOKEN)) as hub:
        publishing.hub = hub.url
        yield hub
