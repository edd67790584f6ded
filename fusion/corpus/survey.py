"""A first pass over the corpus: is it readable, how much is it, and which documents are held out."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fusion.corpus.documents import Document
from fusion.errors import CorpusInvalid
from fusion.io.windows import Split
from fusion.llms.token_bytes import TextEncoder

_SAMPLE_BYTES = 256 << 10
_SAMPLE_BYTES_PER_DOCUMENT = 16 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutRule:
    """Which side a document falls on: a function of its text alone, so order and duplicates do not matter.

    `smallest` and `largest` are the extreme text digests of the corpus: the first is always held out, the
    second always trained on, so that neither side is empty.
    """

    fraction: float
    smallest: bytes
    largest: bytes

    def side(self, text: str) -> Split:
        digest = text_digest(text)
        if digest == self.largest:
            return "train"
        position = int.from_bytes(digest[:8], "big") / 2**64
        return "held_out" if position < self.fraction or digest == self.smallest else "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """num_bytes: UTF-8 bytes of all documents. tokens_per_byte: per model, on a sample from the start."""

    num_documents: int
    num_bytes: int
    digest: str
    rule: HeldOutRule
    tokens_per_byte: dict[str, float]


def text_digest(text: str) -> bytes:
    """sha256 of the text."""
    return hashlib.sha256(text.encode()).digest()


def survey_corpus(
    documents: Iterable[Document], *, held_out_fraction: float, encoders: Mapping[str, TextEncoder]
) -> Survey:
    """Read the corpus once.

    Raises:
        CorpusInvalid: it is empty (corpus_empty) or cannot be split in two (corpus_too_small), or as
            `iter_documents` raises.
    """
    num_documents = num_bytes = 0
    smallest, largest = b"\xff" * 32, b""
    whole = hashlib.sha256()
    sample: list[str] = []
    sample_bytes = 0
    for document in documents:
        digest = text_digest(document.text)
        smallest, largest = min(smallest, digest), max(largest, digest)
        whole.update(digest)
        num_documents += 1
        num_bytes += len(document.text.encode())
        if sample_bytes < _SAMPLE_BYTES:
            sample.append(document.text[:_SAMPLE_BYTES_PER_DOCUMENT])
            sample_bytes += len(sample[-1].encode())
    _require_two(num_documents, distinct=smallest != largest)
    return Survey(
        num_documents=num_documents,
        num_bytes=num_bytes,
        digest=whole.hexdigest(),
        rule=HeldOutRule(fraction=held_out_fraction, smallest=smallest, largest=largest),
        tokens_per_byte={
            name: sum(len(encoder.encode(text).ids) for text in sample) / sample_bytes
            for name, encoder in encoders.items()
        },
    )


def _require_two(num_documents: int, *, distinct: bool) -> None:
    if num_documents == 0:
        raise CorpusInvalid(
            "the corpus holds no text",
            code="corpus_empty",
            hint="give at least two documents with text; check corpus.text_field",
            pointer="/corpus",
        )
    if not distinct:
        raise CorpusInvalid(
            f"the corpus holds {num_documents} documents, all with the same text; "
            "one is needed to train on and another one to evaluate on",
            code="corpus_too_small",
            hint="add documents, or split this one; a plain text file is split at blank lines every 4 KiB",
            pointer="/corpus",
        )
