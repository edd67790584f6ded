"""What answers look like, by route and status: examples for the OpenAPI document, `/docs` and docs/api.md.

They tell one story: the job `wise` fuses two models into a third. A test holds them against the schemas and
against the classes that make the answers.
"""

from collections.abc import Mapping
from typing import Any, Final

from app.api_examples.artifacts import ARTIFACT_ANSWERS
from app.api_examples.checkpoints import CHECKPOINT_ANSWERS
from app.api_examples.documents import DOCUMENT_ANSWERS
from app.api_examples.files import FILE_ANSWERS
from app.api_examples.following import FOLLOWING_ANSWERS
from app.api_examples.jobs import JOB_ANSWERS
from app.api_examples.models import MODEL_ANSWERS
from app.api_examples.publications import PUBLICATION_ANSWERS
from app.api_examples.refusals import refusal_example
from app.api_examples.uploads import UPLOAD_ANSWERS

__all__ = ["ANSWERS", "refusal_example"]

ANSWERS: Final[Mapping[str, Mapping[int, Any]]] = {
    **JOB_ANSWERS,
    **DOCUMENT_ANSWERS,
    **FOLLOWING_ANSWERS,
    **CHECKPOINT_ANSWERS,
    **FILE_ANSWERS,
    **UPLOAD_ANSWERS,
    **MODEL_ANSWERS,
    **PUBLICATION_ANSWERS,
    **ARTIFACT_ANSWERS,
}
"""`METHOD path` to status to body."""
