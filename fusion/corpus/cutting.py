"""Cutting documents into windows on every core, in the order of the corpus.

Threads suffice: nearly all of the time goes into the tokenizers, which run outside the interpreter's lock.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from fusion.corpus.documents import Document
from fusion.corpus.windowing import Cut, Reader, cut_document

_DOCUMENTS_PER_THREAD = 4
"""Held at a time: a few, so that a long one among short ones leaves no thread idle."""


def cut_documents(
    documents: Iterable[Document], *, readers: Sequence[Reader], max_tokens: int, num_threads: int
) -> Iterator[tuple[Document, list[Cut]]]:
    """Every document with its windows, as `cut_document` makes them; the same for any number of threads.

    Raises:
        CorpusInvalid: as `cut_document`, where the document's turn comes.
    """

    def cut(document: Document) -> list[Cut]:
        return list(cut_document(document.text, readers=readers, max_tokens=max_tokens))

    pending: deque[tuple[Document, Future[list[Cut]]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="cut") as pool:
        try:
            for document in documents:
                pending.append((document, pool.submit(cut, document)))
                if len(pending) == num_threads * _DOCUMENTS_PER_THREAD:
                    yield _finished(pending)
            while pending:
                yield _finished(pending)
        finally:
            # What a mistake or an interruption leaves is not worth waiting for.
            pool.shutdown(cancel_futures=True)


def _finished(pending: deque[tuple[Document, Future[list[Cut]]]]) -> tuple[Document, list[Cut]]:
    document, cuts = pending.popleft()
    return document, cuts.result()
