"""What a job leaves to be read: its lock, its evaluation report and its model card, from its artifacts.

Each appears when the step that writes it has succeeded, also while the rest of the job goes on.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.kinds import ArtifactKind
from app.artifacts.repository import files_of
from app.db.models import Artifact, Job, Step
from app.errors import Conflict, NotFound
from app.jobs.lifecycle import FINISHED_JOBS, JobStatus
from app.storage.store import ObjectStore, blob_key
from fusion.errors import InfrastructureError

MAX_DOCUMENT_BYTES: Final = 32_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A file that a step of a job writes, and what it is called in the API."""

    name: str
    stage: str
    kind: ArtifactKind
    path: str


LOCK: Final = Document(name="lock", stage="prepare", kind=ArtifactKind.OUTPUT, path="models.json")
REPORT: Final = Document(name="report", stage="evaluate", kind=ArtifactKind.OUTPUT, path="report.json")
CARD: Final = Document(name="card", stage="publish", kind=ArtifactKind.MODEL, path="README.md")


def read_lock(session: Session, store: ObjectStore, job: Job) -> dict[str, Any]:
    """Everything that pins a job: spec and seed, every checkpoint by digest, the text by digest and origin.

    Raises:
        Conflict, NotFound: as `_artifact_of`.
    """
    artifact = _artifact_of(session, job, LOCK)
    corpus = (artifact.manifest or {}).get("meta", {})
    return {
        "object": "job_lock",
        "job_id": job.id,
        "spec": job.spec,
        "spec_digest": job.spec_digest,
        "seed": job.spec["seed"],
        "models": json.loads(_read(session, store, artifact, LOCK)),
        "corpus": {"digest": corpus.get("corpus_digest")}
        | {name: corpus.get(name) for name in ("origins", "num_documents", "num_windows", "num_bytes")},
        "outputs": _output_digests(session, job),
    }


def read_report(session: Session, store: ObjectStore, job: Job) -> dict[str, Any]:
    """The evaluation report as the step wrote it.

    Raises:
        Conflict, NotFound: as `_artifact_of`.
    """
    report = json.loads(_read(session, store, _artifact_of(session, job, REPORT), REPORT))
    return {"object": "job_report", "job_id": job.id, **report}


def read_card(session: Session, store: ObjectStore, job: Job) -> str:
    """The model card, in Markdown with YAML front matter.

    Raises:
        Conflict, NotFound: as `_artifact_of`.
    """
    return _read(session, store, _artifact_of(session, job, CARD), CARD).decode()


def _artifact_of(session: Session, job: Job, document: Document) -> Artifact:
    """The artifact with the document.

    Raises:
        Conflict: the step that writes it has not succeeded yet.
        NotFound: the job ended without it, or what it stored was removed.
    """
    # By kind and not by the step's `artifact_id`: the published model is stored in a kind of its own.
    query = (
        select(Artifact)
        .join(Step, Step.id == Artifact.step_id)
        .where(Artifact.job_id == job.id, Artifact.kind == document.kind.value, Step.stage == document.stage)
        .order_by(Artifact.id.desc())
        .limit(1)
    )
    artifact = session.scalars(query).one_or_none()
    if artifact is not None:
        return artifact
    if JobStatus(job.status) in FINISHED_JOBS:
        raise NotFound(
            f"{job.id} is {job.status} and has no {document.name}", code=f"{document.name}_not_found"
        )
    raise Conflict(
        f"{job.id} has no {document.name} yet: the step {document.stage!r} writes it",
        code=f"{document.name}_not_ready",
        hint=f"ask again when GET /v1/jobs/{job.id}/steps shows {document.stage!r} as succeeded",
    )


def _read(session: Session, store: ObjectStore, artifact: Artifact, document: Document) -> bytes:
    file = next((file for file in files_of(session, artifact.id) if file.path == document.path), None)
    if file is None:
        raise NotFound(
            f"{artifact.id} has no file {document.path!r}",
            code=f"{document.name}_not_found",
            hint=f"GET /v1/artifacts/{artifact.id} lists its files",
        )
    if file.num_bytes > MAX_DOCUMENT_BYTES:
        raise InfrastructureError(
            f"{document.path} of {artifact.id} has {file.num_bytes} bytes, more than is read here",
            code="document_too_large",
        )
    key = blob_key(project_id=file.project_id, sha256=file.sha256)
    return b"".join(store.open_range(key, start=0, end=file.num_bytes))


def _output_digests(session: Session, job: Job) -> dict[str, str]:
    """Digest of what every finished step stored, by its name."""
    query = (
        select(Step.name, Artifact.digest)
        .join(Artifact, Artifact.id == Step.artifact_id)
        .where(Step.job_id == job.id)
        .order_by(Step.position)
    )
    return {row.name: row.digest for row in session.execute(query)}
