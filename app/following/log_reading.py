"""Logs of attempts as users read them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, select

from app.db.models import LogChunk
from app.db.session import read_only
from app.jobs.log_text import Level, lines_of

_CHUNKS_AT_ONCE: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """A line of an attempt's. `seq` numbers the chunk it came with."""

    seq: int
    step_name: str
    attempt: int
    created_at: datetime
    level: Level
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogCut:
    """Which lines are asked for. `steps`: names by id."""

    job_id: str
    steps: dict[str, str]
    attempt: int | None = None
    since: int = 0
    """Only what was written after the chunk with this number."""
    removed_seq: int = 0
    """Up to this number chunks are no longer kept."""
    level: Level = Level.DEBUG
    tail: int | None = None
    """Only so many lines, the last ones."""

    @property
    def misses_some(self) -> bool:
        """Whether what is asked for begins before what is kept."""
        return self.since < self.removed_seq


def read_lines(engine: Engine, cut: LogCut) -> Iterator[LogLine]:
    """Lines in the order they were written. A few chunks are in memory at a time, and no transaction is open
    while somebody reads them; with `tail` its lines are.
    """
    if cut.tail is None:
        yield from _forwards(engine, cut)
        return
    kept: list[LogLine] = []
    for chunks in _pages(engine, cut, newest_first=True):
        for chunk in chunks:
            kept = [*_lines(chunk, cut), *kept][-cut.tail :]
        if len(kept) >= cut.tail:
            break
    yield from kept


def _forwards(engine: Engine, cut: LogCut) -> Iterator[LogLine]:
    ends: dict[tuple[str, int], int] = {}
    for chunks in _pages(engine, cut, newest_first=False):
        for chunk in chunks:
            of_attempt = (chunk.step_id, chunk.attempt)
            missing = chunk.first_byte - ends.get(of_attempt, chunk.first_byte if cut.since else 0)
            if missing > 0:
                yield _line(chunk, cut, Level.INFO, f"... {missing} bytes are left out here ...")
            ends[of_attempt] = chunk.first_byte + chunk.num_bytes
            yield from _lines(chunk, cut)


def _pages(engine: Engine, cut: LogCut, *, newest_first: bool) -> Iterator[Collection[LogChunk]]:
    """Chunks, each page read in a transaction of its own."""
    query = select(LogChunk).where(
        LogChunk.job_id == cut.job_id,
        LogChunk.step_id.in_(cut.steps),
        LogChunk.seq > max(cut.since, cut.removed_seq),
    )
    if cut.attempt is not None:
        query = query.where(LogChunk.attempt == cut.attempt)
    query = query.order_by(LogChunk.seq.desc() if newest_first else LogChunk.seq).limit(_CHUNKS_AT_ONCE)
    beyond = None
    while True:
        with read_only(engine) as session:
            chunks = list(session.scalars(query if beyond is None else query.where(beyond)))
        yield chunks
        if len(chunks) < _CHUNKS_AT_ONCE:
            return
        edge = chunks[-1].seq
        beyond = LogChunk.seq < edge if newest_first else LogChunk.seq > edge


def _lines(chunk: LogChunk, cut: LogCut) -> list[LogLine]:
    return [
        _line(chunk, cut, line.level, line.text)
        for line in lines_of(chunk.text)
        if line.level.rank >= cut.level.rank
    ]


def _line(chunk: LogChunk, cut: LogCut, level: Level, text: str) -> LogLine:
    return LogLine(
        seq=chunk.seq,
        step_name=cut.steps[chunk.step_id],
        attempt=chunk.attempt,
        created_at=chunk.created_at,
        level=level,
        text=text,
    )
