"""Text windows on disk: what `prepare` writes and every later stage reads.

A window is a piece of one document, cut so that no tokenizer of the job exceeds its limit. Windows of a
document, in order, concatenate to it byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from fusion.io.atomic import PARTIAL_SUFFIX, sync_file, sync_folder

Split = Literal["train", "held_out"]

_SCHEMA = pa.schema(
    [
        ("document", pa.int64()),
        ("domain", pa.string()),
        ("text", pa.large_string()),
        ("ends_document", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """`document` numbers the documents of the corpus in reading order, over both splits."""

    document: int
    domain: str
    text: str
    ends_document: bool


def windows_path(prepared: Path, split: Split, shard: int) -> Path:
    """Where shard number `shard` of a split lies in the output folder of `prepare`."""
    return prepared / split / f"{shard:05d}.parquet"


def list_shards(prepared: Path, split: Split) -> list[int]:
    """Numbers of the shards of a split, ascending."""
    return sorted(int(path.stem) for path in (prepared / split).glob("*.parquet"))


def write_windows(path: Path, windows: Sequence[Window]) -> None:
    """Write one shard; it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "document": [window.document for window in windows],
            "domain": [window.domain for window in windows],
            "text": [window.text for window in windows],
            "ends_document": [window.ends_document for window in windows],
        },
        schema=_SCHEMA,
    )
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    pq.write_table(table, partial, compression="zstd")
    sync_file(partial)
    partial.replace(path)
    sync_folder(path.parent)


def read_windows(path: Path) -> list[Window]:
    """Read one shard."""
    columns = pq.read_table(path, schema=_SCHEMA).to_pydict()
    return [
        Window(document=document, domain=domain, text=text, ends_document=ends)
        for document, domain, text, ends in zip(
            columns["document"], columns["domain"], columns["text"], columns["ends_document"], strict=True
        )
    ]


def iter_split(prepared: Path, split: Split) -> Iterator[Window]:
    """All windows of a split, shard by shard."""
    for shard in list_shards(prepared, split):
        yield from read_windows(windows_path(prepared, split, shard))
