"""How much text a spec names: counted by an earlier job or at an upload, else by the size of its file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import File
from app.jobs.estimates.figures import Basis, Figure, total
from app.jobs.estimates.past import PastJob
from app.jobs.workload import CorpusSize
from fusion.spec import CorpusFile, FusionSpec

_COMPRESSED: Final = (".gz", ".zst", ".xz", ".bz2")
_TEXT_IN_JSONL: Final = (0.3, 0.9, 1.0)
_TEXT_IN_PARQUET: Final = (1.0, 2.5, 5.0)
_TEXT_IN_COMPRESSED: Final = (2.0, 3.5, 8.0)
_TOKENS_PER_BYTE: Final = (0.18, 0.25, 0.5)
"""Prose in English to code and other scripts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """`num_records`: how many documents, where an upload was counted. `counted`: as an earlier job cut it."""

    num_bytes: Figure
    num_records: int | None
    counted: CorpusSize | None


def text_of(session: Session, spec: FusionSpec, past: list[PastJob]) -> Text:
    """The text of a spec."""
    same = next((job for job in past if job.has_text_of(spec)), None)
    size = same.corpus_size if same is not None else None
    if same is not None and size is not None:
        figure = Figure.exactly(size.num_bytes, why=f"{same.job_id} read the same text")
        return Text(num_bytes=figure, num_records=None, counted=size if same.has_windows_of(spec) else None)
    if spec.corpus.dataset is not None:
        hub = spec.corpus.dataset.hub
        unknown = Figure.unknown(f"the size of {hub} is not known before a job has read it")
        return Text(num_bytes=unknown, num_records=None, counted=None)
    files = _files(session, spec)
    figures = [_bytes_of(file, files) for file in spec.corpus.files]
    records = [
        _records_of(files[file.file_id]) if file.file_id in files else None for file in spec.corpus.files
    ]
    return Text(
        num_bytes=total(figures, why="; ".join(dict.fromkeys(figure.why for figure in figures[:3]))),
        num_records=None if None in records else sum(number or 0 for number in records),
        counted=None,
    )


def tokens_per_byte(spec: FusionSpec, past: list[PastJob], name: str) -> Figure:
    """How many tokens a model's tokenizer makes of a byte."""
    ref = spec.model_ref(name)
    of_text = [job for job in past if job.has_text_of(spec)]
    for job in [*of_text, *past]:
        ratio = job.tokens_per_byte(ref)
        if ratio is not None:
            same_text = job in of_text
            why = f"{job.job_id} read {'the same' if same_text else 'other'} text with this tokenizer"
            if same_text:
                return Figure.exactly(ratio, why=why)
            return Figure.within(0.7 * ratio, ratio, 1.5 * ratio, basis=Basis.MODELLED, why=why)
    why = f"assumed: {_TOKENS_PER_BYTE[1]} tokens per byte of text"
    return Figure.within(*_TOKENS_PER_BYTE, basis=Basis.DEFAULT, why=why)


def size_of_text(spec: FusionSpec, text: Text, tokens: Figure) -> CorpusSize | None:
    """The text as steps see it, at its expected size; None where that is unknown."""
    if text.counted is not None:
        return text.counted
    num_bytes, num_tokens = text.num_bytes.value, tokens.value
    if num_bytes is None or num_tokens is None:
        return None
    held_out = spec.corpus.held_out_fraction
    num_windows = max(1.0, num_tokens / spec.corpus.max_tokens_per_window, float(text.num_records or 0))
    return CorpusSize(
        num_bytes=num_bytes,
        num_train_bytes=num_bytes * (1.0 - held_out),
        num_held_out_bytes=num_bytes * held_out,
        num_train_windows=num_windows * (1.0 - held_out),
    )


def _files(session: Session, spec: FusionSpec) -> dict[str | None, File]:
    ids = [file_id for _, file_id in spec.file_ids()]
    return {file.id: file for file in session.scalars(select(File).where(File.id.in_(ids)))}


def _bytes_of(file: CorpusFile, files: dict[str | None, File]) -> Figure:
    uploaded = files.get(file.file_id)
    if uploaded is not None:
        counted = (uploaded.facts or {}).get("num_text_bytes")
        if counted is not None:
            return Figure.exactly(counted, why="counted when the file was uploaded")
        return _guessed(uploaded.filename, uploaded.num_bytes)
    try:
        num_bytes = Path(file.path or "").stat().st_size
    except (OSError, ValueError):
        return Figure.unknown(f"{file.path} is not on the API's machine")
    return _guessed(Path(file.path or "").name, num_bytes)


def _guessed(name: str, num_bytes: int) -> Figure:
    """From the size of a file and what its name says of the format."""
    size = Figure.exactly(num_bytes, why=f"{name} has {num_bytes} bytes", basis=Basis.MODELLED)
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    for suffix, shares in (
        (".jsonl", _TEXT_IN_JSONL),
        (".json", _TEXT_IN_JSONL),
        (".parquet", _TEXT_IN_PARQUET),
    ):
        if suffix in suffixes:
            why = f"taken for {shares[1]} bytes of text in a byte of {suffix[1:]}"
            size = size.times(Figure.within(*shares, basis=Basis.MODELLED, why=why))
    if any(suffix in _COMPRESSED for suffix in suffixes):
        why = f"taken for compressed to 1/{_TEXT_IN_COMPRESSED[1]:g}"
        size = size.times(Figure.within(*_TEXT_IN_COMPRESSED, basis=Basis.MODELLED, why=why))
    return size


def _records_of(file: File) -> int | None:
    records: int | None = (file.facts or {}).get("num_records")
    return records
