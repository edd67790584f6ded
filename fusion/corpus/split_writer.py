"""Writing the windows of one split, a shard at a time."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fusion.corpus.documents import Document
from fusion.corpus.windowing import Cut
from fusion.io.windows import Split, Window, windows_path, write_windows


class SplitWriter:
    """Holds at most one shard in memory; call `flush` at the end."""

    def __init__(self, out_dir: Path, *, split: Split, windows_per_shard: int) -> None:
        self._out_dir = out_dir
        self._split = split
        self._windows_per_shard = windows_per_shard
        self._pending: list[Window] = []
        self.num_shards = 0
        self.num_windows = 0
        self.num_bytes = 0
        self.documents_of_domain: Counter[str] = Counter()

    @property
    def num_documents(self) -> int:
        return self.documents_of_domain.total()

    def add_document(self, number: int, document: Document, *, cuts: Sequence[Cut]) -> None:
        """Add the windows of one document; `number` counts over both splits."""
        self.documents_of_domain[document.domain] += 1
        for index, cut in enumerate(cuts, start=1):
            self.num_windows += 1
            self.num_bytes += len(cut.text.encode())
            self._pending.append(
                Window(
                    document=number, domain=document.domain, text=cut.text, ends_document=index == len(cuts)
                )
            )
            if len(self._pending) == self._windows_per_shard:
                self.flush()

    def flush(self) -> None:
        """Write what is pending as a shard."""
        if self._pending:
            path = windows_path(self._out_dir, self._split, self.num_shards)
            write_windows(path, self._pending)
            self.num_shards += 1
            self._pending = []
