"""Reads every stored byte that a row refers to, and names what is missing or damaged."""

from collections.abc import Iterator

from sqlalchemy import Engine

from app.artifacts.blobs import ReferencedBlob, every_blob
from app.operations.doctor.findings import Finding, error, ok
from app.storage.digests import pieces_sha256
from app.storage.store import ObjectDamaged, ObjectMissing, ObjectStore


def check_artifacts(engine: Engine, store: ObjectStore) -> Iterator[Finding]:
    """One error per damaged or missing blob, each read once however many rows share it."""
    num_blobs = num_bytes = num_bad = 0
    for blob in every_blob(engine):
        num_blobs, num_bytes = num_blobs + 1, num_bytes + blob.num_bytes
        problem = _problem(store, blob)
        if problem is not None:
            num_bad += 1
            yield error(
                "artifacts",
                f"{blob.owner}: {problem}",
                hint="restore the object from a backup; or retry or clone the job, or upload the file again",
            )
    if not num_bad:
        yield ok("artifacts", f"{num_blobs} stored files of {num_bytes / 1e9:.3f} GB were read and are right")


def _problem(store: ObjectStore, blob: ReferencedBlob) -> str | None:
    found = store.size(blob.key)
    if found is None:
        return "its bytes are missing"
    if found != blob.num_bytes:
        return f"{found} bytes are stored, expected {blob.num_bytes}"
    try:
        stored = pieces_sha256(store.open_range(blob.key, start=0, end=blob.num_bytes))
    except (ObjectMissing, ObjectDamaged) as problem:
        return problem.message
    return None if stored == blob.sha256 else f"stored bytes have sha256 {stored}, expected {blob.sha256}"
