"""A model becomes a version of a registered model of an MLflow server: the real one, by itself."""

import base64
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.db.models import Publication
from app.db.session import transaction
from tests.app.publications.conftest import FILES, TOKEN, Publishing
from tests.support.blunt_server import BluntServer, blunt_server
from tests.support.environments import environment
from tests.support.services import spawn, started, stop, wait_until

MLFLOW = "mlflow==3.17.2"
SERVE = """
import sys
from mlflow.server import app
app.run(port=int(sys.argv[1]), threaded=True)
"""
FETCH = """
import mlflow, pathlib, sys
folder = pathlib.Path(mlflow.artifacts.download_artifacts(sys.argv[1], dst_path=sys.argv[2]))
print(*sorted(path.name for path in folder.iterdir()))
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def python() -> Path:
    return environment(MLFLOW)


@pytest.fixture(scope="module")
def mlflow_server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with started(lambda port: start(python, folder, port=port)) as (process, port):
        yield f"http://127.0.0.1:{port}"
        stop(process, signal.SIGTERM)


def start(python: Path, folder: Path, *, port: int) -> subprocess.Popen[bytes]:
    """The server that `mlflow server` starts several of."""
    told = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": folder / "files",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "HOME": folder,
    }
    words = [f"{name}={value}" for name, value in told.items()]
    command: list[object] = ["/usr/bin/env", *words, python, "-c", SERVE, port]
    process = spawn(command, folder / "log", death_signal=signal.SIGTERM, user=None)

    def answers() -> bool:
        return httpx2.get(f"http://127.0.0.1:{port}/health").text == "OK"

    wait_until(answers, process=process, log=folder / "log", not_yet=httpx2.HTTPError, seconds=120)
    return process


class TestOfTheRealServer:
    @pytest.fixture
    def origins(self, mlflow_server: str) -> tuple[str, ...]:
        return (mlflow_server,)

    @pytest.fixture
    def wanted(self, mlflow_server: str, request: pytest.FixtureRequest) -> dict[str, Any]:
        """What a user asks for: of every test another model."""
        name = f"wise's {abs(hash(request.node.name))}"
        return {"target": "mlflow", "tracking_uri": f"{mlflow_server}/", "name": name}

    def versions(self, address: str, name: str) -> list[dict[str, Any]]:
        answer = httpx2.get(f"{address}/api/2.0/mlflow/model-versions/search", params={"max_results": 1000})
        return [version for version in answer.json().get("model_versions", []) if version["name"] == name]

    def test_a_model_becomes_a_version_that_mlflow_fetches(
        self, publishing: Publishing, mlflow_server: str, wanted: dict[str, Any], python: Path, tmp_path: Path
    ) -> None:
        done = publishing.publish(**wanted)

        assert (done["status"], done["error"], done["revision"]) == ("succeeded", None, "1")
        (version,) = self.versions(mlflow_server, wanted["name"])
        tags = {tag["key"]: tag["value"] for tag in version["tags"]}
        assert tags["fusion.model_id"] == publishing.model.model_id
        assert tags["fusion.job_id"] == publishing.model.job_id
        words = [python, "-c", FETCH, f"models:/{wanted['name']}/1", tmp_path / "fetched"]
        told = subprocess.run(
            [*map(str, words)],
            env={"MLFLOW_TRACKING_URI": mlflow_server, "HOME": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == sorted([*FILES, "manifest.json"])
        fetched = {path.name: path.read_bytes() for path in (tmp_path / "fetched").rglob("*.safetensors")}
        assert fetched == {path: data for path, data in FILES.items() if path.endswith(".safetensors")}

    def test_every_publication_is_a_version_of_the_same_model(
        self, publishing: Publishing, mlflow_server: str, wanted: dict[str, Any]
    ) -> None:
        revisions = [publishing.publish(**wanted)["revision"] for _ in range(2)]

        assert revisions == ["1", "2"]
        assert len(self.versions(mlflow_server, wanted["name"])) == 2

    def test_whoever_comes_after_a_crash_finds_the_version_that_is_there(
        self, publishing: Publishing, mlflow_server: str, wanted: dict[str, Any]
    ) -> None:
        done = publishing.publish(**wanted)
        with transaction(publishing.engine) as session:
            # As if whoever sent it had died before saying so.
            session.execute(update(Publication).values(status="queued", place=None))
        publishing.keep_house()

        again = publishing.show(done["id"])

        assert (again["status"], again["revision"]) == ("succeeded", "1")
        assert len(self.versions(mlflow_server, wanted["name"])) == 1

    def test_damaged_bytes_make_no_version(
        self, publishing: Publishing, mlflow_server: str, wanted: dict[str, Any]
    ) -> None:
        publishing.damage(FILES["config.json"])

        failed = publishing.publish(**wanted)

        assert (failed["status"], failed["error"]["code"]) == ("failed", "model_damaged")
        assert self.versions(mlflow_server, wanted["name"]) == []


class TestOfAServerThatRefuses:
    @pytest.fixture
    def blunt(self) -> Iterator[BluntServer]:
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": f"who is {TOKEN}?"})
        with blunt_server(BluntServer(status=403, body=body.encode())) as blunt:
            yield blunt

    @pytest.fixture
    def origins(self, blunt: BluntServer) -> tuple[str, ...]:
        return (blunt.url,)

    @pytest.mark.parametrize("username", [None, "ada"])
    def test_it_is_shown_the_secret_which_nobody_else_is(
        self, publishing: Publishing, blunt: BluntServer, username: str | None
    ) -> None:
        failed = publishing.publish(
            target="mlflow", tracking_uri=blunt.url, name="wise", username=username, secret="token"
        )

        assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_denied")
        assert failed["error"]["message"].endswith("403 who is [secret]?")
        password = base64.b64encode(f"ada:{TOKEN}".encode()).decode()
        expected = f"Bearer {TOKEN}" if username is None else f"Basic {password}"
        assert {headers["authorization"] for headers in blunt.asked} == {expected}

    @pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (200, b"[]"), (302, b"")])
    def test_one_that_is_none_ends_the_publication(
        self, publishing: Publishing, blunt: BluntServer, status: int, body: bytes
    ) -> None:
        blunt.status, blunt.body = status, body

        failed = publishing.publish(target="mlflow", tracking_uri=blunt.url, name="wise")

        assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_refused")

    def test_one_in_trouble_is_asked_again_later(self, publishing: Publishing, blunt: BluntServer) -> None:
        blunt.status = 502

        waiting = publishing.publish(target="mlflow", tracking_uri=blunt.url, name="wise")

        assert (waiting["status"], waiting["num_failures"]) == ("queued", 1)
