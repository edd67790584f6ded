"""The footer says what pyarrow says, and no footer does harm."""

import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.parquet_footer import FooterUnreadable, parse_footer

NESTED = pa.table(
    {
        "id": pa.array([1, 2, 3]),
        "messages": pa.array(
            [[{"role": "user", "content": "hello"}], [], None],
            pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        ),
        "flags": pa.array([[True], None, [False, True]], pa.list_(pa.bool_())),
        "größe": pa.array([0.5, None, 2.5]),
        "text": pa.array(["a", "b", None]).dictionary_encode(),
    }
)


def written(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def footer_of(data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


@pytest.mark.parametrize("version", ["1.0", "2.4", "2.6"])
@pytest.mark.parametrize("compression", ["none", "snappy", "gzip"])
def test_it_agrees_with_pyarrow(version: str, compression: str) -> None:
    table = pa.concat_tables([NESTED] * 50)
    data = written(table, version=version, compression=compression, row_group_size=40)

    footer = parse_footer(footer_of(data))

    metadata = pq.read_metadata(io.BytesIO(data))
    groups = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    assert footer.columns == tuple(NESTED.column_names)
    assert footer.text_columns == ("messages", "text")
    assert footer.num_rows == metadata.num_rows == 150
    assert (footer.num_bytes, footer.largest_group) == (sum(groups), max(groups))


def test_many_columns_are_counted_right() -> None:
    names = [f"column {number}" for number in range(300)]
    data = written(pa.table({name: ["x"] for name in names}))

    assert parse_footer(footer_of(data)).columns == tuple(names)


GOOD = footer_of(written(pa.concat_tables([NESTED] * 5), row_group_size=3))


@given(st.integers(0, 2**32))
def test_a_damaged_footer_is_refused_or_read_but_never_more(seed: int) -> None:
    source = random.Random(seed)
    data = bytearray(GOOD)
    for _ in range(source.randint(1, 4)):
        data[source.randrange(len(data))] = source.randrange(256)

    try_to_parse(bytes(data[: source.choice([len(data), source.randrange(len(data))])]))


@given(st.binary(max_size=400))
def test_nonsense_is_refused_or_read_but_never_more(data: bytes) -> None:
    try_to_parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x29" * 1_000_000,  # a struct in a struct in a struct, or lists likewise
        b"\x1c" * 1_000_000,
        b"\x19" * 1_000_000,
        b"\x19\x99" * 500_000,
        b"\x19\xfc\xff\xff\xff\xff\x0f",  # a list of four billion structs
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # a string of as good as endless length
        b"\x15" + b"\xff" * 100,  # a number that does not end
    ],
)
def test_footers_made_to_hurt_are_refused(data: bytes) -> None:
    with pytest.raises(FooterUnreadable):
        parse_footer(data)


def try_to_parse(data: bytes) -> None:
    try:
        footer = parse_footer(data)
    except FooterUnreadable:
        return
    assert footer.num_rows >= 0
