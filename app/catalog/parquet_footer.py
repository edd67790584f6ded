"""What the footer of a Parquet file tells: columns, rows, and how large its pages become.

pyarrow would load far more into the API than a check on arrival is worth, so the few fields that count are
read here. The pages themselves are read by the stage `prepare`.

The footer is a struct (https://github.com/apache/parquet-format) in Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = b"PAR1"
TAIL_BYTES: Final = 8
MAX_FOOTER_BYTES: Final = 16 << 20
_MAX_DEPTH: Final = 16
_TYPE_BYTES: Final = 6
"""`BYTE_ARRAY` of the format's enum `Type`: text, or bytes."""

# Numbers of fields in the format's structs; only these are kept while decoding.
_FILE: Final[dict[int, Any]] = {2: {1: None, 4: None, 5: None}, 3: None, 4: {2: None, 3: None}}
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = 2, 3, 4
_ELEMENT_TYPE, _ELEMENT_NAME, _NUM_CHILDREN = 1, 4, 5
_GROUP_BYTES, _GROUP_ROWS = 2, 3


class FooterUnreadable(ValueError):
    """The bytes are no footer of the format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    """columns: names of the top level. text_columns: those of them that hold text, at any depth.

    num_bytes: size of all pages once they are decompressed; largest_group: of one row group.
    """

    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    num_rows: int
    num_bytes: int
    largest_group: int


def parse_footer(data: bytes) -> Footer:
    """Read a footer without its length and mark.

    Raises:
        FooterUnreadable: says what is wrong with it.
    """
    try:
        found = _CompactReader(data).struct(_FILE)
        groups = found.get(_ROW_GROUPS, [])
        columns, text_columns = _columns(found[_SCHEMA])
        sizes = [group[_GROUP_BYTES] for group in groups]
        num_rows = found[_NUM_ROWS]
        rows_told = sum(group[_GROUP_ROWS] for group in groups)
    except (KeyError, IndexError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise FooterUnreadable(f"its footer is damaged ({type(error).__name__})") from error
    if num_rows < 0 or rows_told != num_rows or any(size < 0 for size in sizes):
        raise FooterUnreadable(f"its footer says {num_rows} rows, its row groups {rows_told}")
    return Footer(
        columns=columns,
        text_columns=text_columns,
        num_rows=num_rows,
        num_bytes=sum(sizes),
        largest_group=max(sizes, default=0),
    )


def _columns(elements: list[dict[int, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names below the root, and those with text in them; the schema is its tree in depth-first order."""
    names: list[str] = []
    with_text: list[str] = []
    position = 1
    for _ in range(elements[0][_NUM_CHILDREN]):
        start, position = position, _end_of_subtree(elements, position)
        names.append(elements[start][_ELEMENT_NAME].decode())
        if any(element.get(_ELEMENT_TYPE) == _TYPE_BYTES for element in elements[start:position]):
            with_text.append(names[-1])
    return tuple(names), tuple(with_text)


def _end_of_subtree(elements: list[dict[int, Any]], position: int) -> int:
    num_waiting = 1
    while num_waiting:
        num_waiting += elements[position].get(_NUM_CHILDREN, 0) - 1
        position += 1
    return position


class _CompactReader:
    """Thrift's compact protocol, as far as it occurs in a footer. What is not wanted is read over."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self, wanted: dict[int, Any] | None, *, depth: int = 0) -> dict[int, Any]:
        """Fields by number. `wanted` holds the structs inside by field; None keeps nothing."""
        found: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            step, kind = header >> 4, header & 15
            number = number + step if step else self._zigzag()
            is_wanted = wanted is not None and number in wanted
            inner = wanted[number] if wanted is not None and is_wanted else None
            value = self._value(kind, inner, depth=depth)
            if is_wanted:
                found[number] = value
        return found

    def _value(self, kind: int, wanted: dict[int, Any] | None, *, depth: int, in_list: bool = False) -> Any:
        if depth > _MAX_DEPTH:
            raise FooterUnreadable("its footer is nested too deeply")
        match kind:
            case 1 | 2:  # in a struct the kind is the value; in a list a byte follows
                return self._byte() == 1 if in_list else kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(wanted, depth=depth)
            case 12:
                return self.struct(wanted, depth=depth + 1)
            case _:
                raise FooterUnreadable(f"its footer holds a value of unknown kind {kind}")

    def _list(self, wanted: dict[int, Any] | None, *, depth: int) -> list[Any]:
        header = self._byte()
        size, kind = header >> 4, header & 15
        size = self._varint() if size == 15 else size
        if size > len(self._data) - self._position:
            raise FooterUnreadable("its footer promises more than it holds")
        items = (self._value(kind, wanted, depth=depth + 1, in_list=True) for _ in range(size))
        if wanted is not None:
            return list(items)
        for _ in items:
            continue
        return []

    def _byte(self) -> int:
        value = self._data[self._position]
        self._position += 1
        return value

    def _bytes(self, length: int) -> bytes:
        end = self._position + length
        if end > len(self._data):
            raise FooterUnreadable("its footer promises more than it holds")
        value = self._data[self._position : end]
        self._position = end
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise FooterUnreadable("its footer holds a number that is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
