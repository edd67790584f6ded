"""Sparse rows from plain lists, and back."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from fusion.blending.sparse_rows import SparseRows

Entries = Sequence[tuple[int, float]]


def rows_of(table: Sequence[Entries], *, tails: Sequence[float] | None = None) -> SparseRows:
    """Rows from (id, weight) lists; without `tails` each is what is missing to 1, and 0 in a silent row."""
    sums = [sum(weight for _, weight in row) for row in table]
    given = tails if tails is not None else [1.0 - total if total > 0 else 0.0 for total in sums]
    return SparseRows(
        row_starts=np.cumsum([0, *map(len, table)], dtype=np.int64),
        ids=np.array([token_id for row in table for token_id, _ in row], dtype=np.int32),
        weights=np.array([weight for row in table for _, weight in row], dtype=np.float32),
        tails=np.array(given, dtype=np.float32),
    )


def entries_of(rows: SparseRows, row: int) -> list[tuple[int, float]]:
    """(id, weight) of one row in order."""
    span = slice(int(rows.row_starts[row]), int(rows.row_starts[row + 1]))
    return list(zip(rows.ids[span].tolist(), rows.weights[span].tolist(), strict=True))


@st.composite
def sparse_tables(draw: st.DrawFn, *, num_rows: int, vocabulary_size: int = 12) -> SparseRows:
    """Rows of distinct ids, most likely first, each adding to 1 with its tail; some are silent."""
    table = []
    for _ in range(num_rows):
        ids = draw(st.lists(st.integers(0, vocabulary_size - 1), unique=True, max_size=5))
        shares = draw(st.lists(st.integers(1, 100), min_size=len(ids) + 1, max_size=len(ids) + 1))
        weights = sorted((share / sum(shares) for share in shares[1:]), reverse=True)
        table.append(list(zip(ids, weights, strict=True)))
    return rows_of(table)
