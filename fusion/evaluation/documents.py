"""The held-out documents that are scored."""

import hashlib
import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fusion.io.windows import iter_split


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutDocument:
    """A document as its windows; `number` as in the corpus."""

    number: int
    domain: str
    windows: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return sum(len(window.encode()) for window in self.windows)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256("".join(self.windows).encode()).digest()


def read_documents(prepared: Path, *, max_documents: int | None) -> list[HeldOutDocument]:
    """Held-out documents in corpus order; of more than `max_documents`, the same share of every domain.

    Which documents of a domain are taken depends on a hash of their text, not on their place in the corpus.
    """
    documents = [
        HeldOutDocument(number=number, domain=group[0].domain, windows=tuple(window.text for window in group))
        for number, windows in itertools.groupby(
            iter_split(prepared, "held_out"), key=lambda window: window.document
        )
        if (group := list(windows))
    ]
    if max_documents is None or len(documents) <= max_documents:
        return documents
    return sorted(_by_quantile(documents)[:max_documents], key=lambda document: document.number)


def _by_quantile(documents: list[HeldOutDocument]) -> list[HeldOutDocument]:
    """Documents ordered so that every prefix holds about the same share of each domain."""
    of_domain: dict[str, list[HeldOutDocument]] = defaultdict(list)
    for document in documents:
        of_domain[document.domain].append(document)
    ranked = [
        ((rank + 0.5) / len(members), domain, document)
        for domain, members in of_domain.items()
        for rank, document in enumerate(sorted(members, key=lambda d: (d.digest, d.number)))
    ]
    return [document for _, _, document in sorted(ranked, key=lambda item: item[:2])]
