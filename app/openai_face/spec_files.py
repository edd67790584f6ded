"""Uploaded specs, named as the training file of a job."""

from typing import Any

from sqlalchemy.orm import Session

from app.catalog import repository
from app.catalog.checks import MAX_SPEC_BYTES
from app.catalog.findings import SPEC_PURPOSES
from app.db.base import is_id
from app.openai_face.drafting import SpecFile, refusal
from app.storage.store import ObjectStore, blob_key
from fusion.plain_data import read_yaml


def read_spec_file(
    session: Session, store: ObjectStore, file_id: str | None, *, project_id: str
) -> SpecFile | None:
    """The uploaded spec of this id; None where it is no such file, but a corpus or nothing at all.

    Raises:
        Unprocessable: it is one, and cannot be read.
    """
    if file_id is None or not is_id(file_id, prefix="file"):
        return None
    file = repository.find_file(session, project_id=project_id, file_id=file_id)
    if file is None or file.purpose not in SPEC_PURPOSES:
        return None
    if file.num_bytes > MAX_SPEC_BYTES or file.error is not None:
        reason = file.error["message"] if file.error else f"it has more than {MAX_SPEC_BYTES} bytes"
        raise refusal("/training_file", "file_not_usable", f"{file_id} is no spec: {reason}")
    key = blob_key(project_id=project_id, sha256=file.sha256)
    text = b"".join(store.open_range(key, start=0, end=file.num_bytes))
    try:
        data: Any = read_yaml(text.decode())
    except ValueError as error:
        raise refusal("/training_file", "spec_unreadable", f"{file_id} is no spec: {error}") from error
    if not isinstance(data, dict):
        raise refusal("/training_file", "spec_unreadable", f"{file_id} is no spec: it is no mapping")
    return SpecFile(file_id=file_id, data=data)
