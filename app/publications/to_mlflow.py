"""Sends a model to an MLflow server, over its REST interface: a run with the files, and a version of a model.

Not with MLflow's own client: that takes its credentials from the environment of the process, wants the files
on a disk, and brings many packages. Needs a server that takes artifacts itself (`--serve-artifacts`, the
default since 2.0).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2

from app.publications.destinations import MlflowDestination
from app.publications.model_files import ModelFiles
from app.publications.outcomes import MAX_SAID, Place, Refused, Unreachable, outcome_of_status
from app.retries import asked_seconds

_ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
_FOLDER: Final = "model"
_TAG: Final = "fusion.publication_id"
_TIMEOUT: Final = httpx2.Timeout(30, read=900, write=120)
"""The server answers an upload when its own, to wherever it keeps artifacts, is done."""


def send_to_mlflow(
    destination: MlflowDestination,
    files: ModelFiles,
    *,
    secret: str | None,
    publication_id: str,
    tags: Mapping[str, str],
) -> Place:
    """Make a run with the files, and a version of the model. Another try goes on with its own run.

    Args:
        tags: of run and version.

    Raises:
        Refused: the server does not let the secret in, or takes something amiss.
        Unreachable: it cannot be reached.
    """
    tags = {**tags, _TAG: publication_id}
    with _told(), _client(destination, secret) as client:
        server = _Server(client)
        run = server.run_of(destination.experiment, publication_id, name=destination.name, tags=tags)
        version = server.find_version(run)
        if version is None:
            there = server.sizes(run)
            for file in files.all:
                if there.get(file.path) == file.num_bytes:
                    files.note(file.num_bytes)
                else:
                    server.put(run, file.path, files.pieces(file), num_bytes=file.num_bytes)
            version = server.make_version(destination.name, run, tags=tags)
        server.post("runs/update", run_id=run.id, status="FINISHED", end_time=_now())
    url = destination.tracking_uri.rstrip("/")
    return Place(
        url=f"{url}/#/models/{quote(destination.name, safe='')}/versions/{version}", revision=version
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    id: str
    artifact_uri: str


class _Server:
    """The calls of MLflow's REST interface that this takes."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def run_of(self, experiment: str, publication_id: str, *, name: str, tags: Mapping[str, str]) -> _Run:
        """The run of an earlier try, or a new one."""
        experiment_id = self._experiment_id(experiment)
        wanted = f"tags.`{_TAG}` = '{publication_id}'"
        earlier = self.post("runs/search", experiment_ids=[experiment_id], filter=wanted, max_results=1)
        found = earlier.get("runs") or [
            self.post(
                "runs/create",
                experiment_id=experiment_id,
                run_name=name,
                start_time=_now(),
                tags=_as_list(tags),
            )["run"]
        ]
        info = found[0]["info"]
        return _Run(id=info["run_id"], artifact_uri=info["artifact_uri"])

    def find_version(self, run: _Run) -> str | None:
        """The version that an earlier try made of a run."""
        found = self.get("model-versions/search", filter=f"run_id='{run.id}'").get("model_versions")
        return str(found[0]["version"]) if found else None

    def sizes(self, run: _Run) -> dict[str, int]:
        """Files of the model that an earlier try has put, with their sizes in bytes."""
        listed = self._client.get(_ARTIFACTS, params={"path": self._folder_of(run)})
        found = _read(listed).get("files", [])
        return {file["path"]: int(file["file_size"]) for file in found if not file.get("is_dir")}

    def put(self, run: _Run, path: str, pieces: Iterator[bytes], *, num_bytes: int) -> None:
        answer = self._client.put(
            f"{_ARTIFACTS}/{quote(self._folder_of(run))}/{quote(path)}",
            content=pieces,
            headers={"Content-Length": str(num_bytes), "Content-Type": "application/octet-stream"},
        )
        _read(answer)

    def _folder_of(self, run: _Run) -> str:
        """Where the server itself keeps the files of the model."""
        parts = urlsplit(run.artifact_uri)
        if parts.scheme != "mlflow-artifacts" or parts.netloc:
            raise Refused(
                f"the server does not take artifacts, but keeps them at {run.artifact_uri}",
                code="destination_refused",
            )
        return f"{parts.path.strip('/')}/{_FOLDER}"

    def make_version(self, model: str, run: _Run, *, tags: Mapping[str, str]) -> str:
        try:
            self.post("registered-models/create", name=model)
        except _ServerError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self.post(
            "model-versions/create",
            name=model,
            source=f"{run.artifact_uri.rstrip('/')}/{_FOLDER}",
            run_id=run.id,
            tags=_as_list(tags),
        )
        return str(made["model_version"]["version"])

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return _read(self._client.get(f"/api/2.0/mlflow/{path}", params=query))

    def post(self, path: str, **body: object) -> dict[str, Any]:
        return _read(self._client.post(f"/api/2.0/mlflow/{path}", json=body))

    def _experiment_id(self, name: str) -> str:
        try:
            found = self.get("experiments/get-by-name", experiment_name=name)
            return str(found["experiment"]["experiment_id"])
        except _ServerError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        return str(self.post("experiments/create", name=name)["experiment_id"])


class _ServerError(Exception):
    """The server answered with an error."""

    def __init__(self, response: httpx2.Response, *, code: str | None, message: str) -> None:
        super().__init__(message)
        self.response = response
        self.code = code
        self.message = message


@contextmanager
def _client(destination: MlflowDestination, secret: str | None) -> Iterator[httpx2.Client]:
    headers, auth = {}, None
    if secret is not None and destination.username is not None:
        auth = httpx2.BasicAuth(destination.username, secret)
    elif secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    with httpx2.Client(
        base_url=destination.tracking_uri.rstrip("/"),
        headers=headers,
        auth=auth,
        timeout=_TIMEOUT,
    ) as client:
        yield client


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except _ServerError as error:
        response = error.response
        asked = asked_seconds(response.headers.get("Retry-After"), now=datetime.now(UTC))
        raise outcome_of_status(response.status_code, error.message, asked_seconds=asked) from error
    except httpx2.TransportError as error:
        raise Unreachable(f"the MLflow server cannot be reached: {error}") from error
    except (KeyError, TypeError) as error:
        raise Refused(
            f"the server does not answer like MLflow: {error!r}", code="destination_refused"
        ) from error


def _read(response: httpx2.Response) -> dict[str, Any]:
    try:
        told = response.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        # The page of a proxy, or the empty answer to an upload.
        told = {}
    if not response.is_success:
        message = str(told.get("message") or response.reason_phrase)[:MAX_SAID]
        raise _ServerError(response, code=told.get("error_code"), message=message)
    return told


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _now() -> int:
    return int(time.time() * 1000)
