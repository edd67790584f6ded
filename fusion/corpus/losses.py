"""Counting the documents that a tokenizer does not reproduce."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusion.corpus.documents import Document
from fusion.corpus.windowing import Cut
from fusion.errors import TokenizerLossy
from fusion.llms.token_bytes import EncodedText, TextEncoder

_CONTEXT_CHARACTERS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class LossExample:
    """`text` surrounds the first byte that the pieces get wrong."""

    place: str
    text: str


@dataclass(kw_only=True, slots=True)
class LossCount:
    """Lossy documents of one tokenizer, with the first one to show."""

    encoder: TextEncoder
    num_documents: int = 0
    example: LossExample | None = None

    def add(self, document: Document, cuts: Sequence[Cut], *, reader: int) -> None:
        """Count the document if the tokenizer with index `reader` fails on one of its windows."""
        lossy = next((cut for cut in cuts if not cut.encodings[reader].lossless), None)
        if lossy is None:
            return
        self.num_documents += 1
        if self.example is None:
            excerpt = _excerpt(lossy.text, encoder=self.encoder, encoded=lossy.encodings[reader])
            self.example = LossExample(place=document.place, text=excerpt)

    def describe(self) -> dict[str, Any]:
        """The `lossy` entry of models.json."""
        return {"documents": self.num_documents, "example": asdict(self.example) if self.example else None}


def _excerpt(text: str, *, encoder: TextEncoder, encoded: EncodedText) -> str:
    raw, spelled = text.encode(), encoder.spell(encoded.ids.tolist())
    num_right = max(_common_length(raw, spelled), _common_length(raw, spelled.removeprefix(b" ")))
    first_wrong = len(raw[:num_right].decode("utf-8", errors="ignore"))
    return text[max(0, first_wrong - _CONTEXT_CHARACTERS) : first_wrong + _CONTEXT_CHARACTERS]


def _common_length(first: bytes, second: bytes) -> int:
    return next(
        (index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )


def require_lossless(
    count: LossCount, *, name: str, pointer: str, num_documents: int, max_lossy_fraction: float
) -> None:
    """Refuse a tokenizer that fails on too many documents.

    Raises:
        TokenizerLossy: with the number of documents and one of them.
    """
    if count.example is None or count.num_documents <= max_lossy_fraction * num_documents:
        return
    raise TokenizerLossy(
        f"the tokenizer of {name!r} does not reproduce {count.num_documents} of {num_documents} documents, "
        f"e.g. {count.example.place}: {count.example.text!r}",
        code="tokenizer_lossy",
        hint="normalise the text (Unicode NFC, single spaces) before the job, leave this model out, "
        f"or raise strategy.alignment.max_lossy_fraction (now {max_lossy_fraction})",
        pointer=pointer,
    )
