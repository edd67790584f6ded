"""Room for bytes that arrive: how many a project may still store, and nothing left of those it may not."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from app.artifacts.blobs import delete_unreferenced_blobs
from app.catalog.receiving import ByteLimit, ReceivedFile, limit_of_service
from app.db.session import read_only, transaction
from app.errors import QuotaExceeded
from app.quotas.enforcement import room_of, too_many_bytes
from app.storage.store import ObjectStore


def byte_limit(engine: Engine, *, project_id: str, max_bytes: int) -> ByteLimit:
    """The service's limit for one body, or what the project has left, whichever is less.

    Several bodies that arrive at once each get all that is left; `require_room` counts them when they are
    there.
    """
    with read_only(engine) as session:
        room = room_of(session, project_id)
    if room is None or room.left >= max_bytes:
        return limit_of_service(max_bytes)
    refusal = too_many_bytes(project_id, f"{room}, and more than {room.left} arrive")
    return ByteLimit(max_bytes=room.left, refusal=refusal)


@contextmanager
def leaving_nothing_when_refused(
    engine: Engine, store: ObjectStore, received: ReceivedFile, *, project_id: str
) -> Iterator[None]:
    """Delete what was stored already when the block finds that there is no room for it."""
    try:
        yield
    except QuotaExceeded:
        with transaction(engine) as session:
            delete_unreferenced_blobs(session, store, {received.sha256}, project_id=project_id)
        raise
