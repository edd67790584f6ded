import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from fusion.alignment.vocab_mapping import map_byte_prefix, map_exact, map_min_edit_distance

pieces = st.text(alphabet="▁ab", max_size=5)
vocabularies = st.lists(pieces, min_size=1, max_size=12, unique=True)
byte_pieces = st.lists(
    st.binary(max_size=4).map(lambda data: bytes(byte % 3 + 97 for byte in data)), max_size=15
)


@given(vocabularies, vocabularies)
def test_min_edit_distance_is_the_first_nearest_piece(source: list[str], target: list[str]) -> None:
    images = map_min_edit_distance(source, target, source_mark="▁", target_mark="▁")

    expected = [
        min(range(len(target)), key=lambda i: Levenshtein.distance(piece, target[i])) for piece in source
    ]
    assert images.dtype == np.int32
    assert images.tolist() == expected


def test_distances_beyond_a_byte_are_compared_as_they_are() -> None:
    far, near = "b" * 300, "a" * 40

    images = map_min_edit_distance(["a" * 299], [far, near], source_mark="Ġ", target_mark="▁")

    assert images.tolist() == [1]


def test_min_edit_distance_swaps_marks_instead_of_removing_them() -> None:
    images = map_min_edit_distance(["Ġab", "ab"], ["ab", "▁ab"], source_mark="Ġ", target_mark="▁")

    assert images.tolist() == [1, 0]


def test_exact_maps_equal_pieces_only() -> None:
    images = map_exact(["Ġab", "abc", "b"], ["b", "▁ab"], source_mark="Ġ", target_mark="▁")

    assert images.tolist() == [1, -1, 0]


@given(byte_pieces, byte_pieces)
def test_byte_prefix_is_the_longest_prefix(source: list[bytes], target: list[bytes]) -> None:
    images = map_byte_prefix(source, target)

    for data, image in zip(source, images.tolist(), strict=True):
        fitting = [
            (-len(piece), index) for index, piece in enumerate(target) if piece and data.startswith(piece)
        ]
        assert image == (min(fitting)[1] if fitting else -1)


@given(byte_pieces, byte_pieces, st.integers(0, 2**15 - 1))
def test_a_real_piece_wins_over_a_fallback(source: list[bytes], target: list[bytes], bits: int) -> None:
    fallback = np.array([bool(bits >> index & 1) for index in range(len(target))], dtype=bool)

    images = map_byte_prefix(source, target, fallback=fallback)

    plain = map_byte_prefix(source, target)
    for data, image, any_image in zip(source, images.tolist(), plain.tolist(), strict=True):
        if any_image < 0:
            assert image == -1
            continue
        equal = [index for index, piece in enumerate(target) if piece == target[any_image]]
        best = min(equal, key=lambda index: (fallback[index], index))
        begun = any(
            piece.startswith(data) and not falls_back
            for piece, falls_back in zip(target, fallback, strict=True)
        )
        assert image == (-1 if fallback[best] and begun else best)


def test_half_of_a_character_is_no_fallback_where_a_piece_spells_the_whole() -> None:
    target = [b"\xc3", b"\xe5", "é".encode()]
    fallback = np.array([True, True, False])
    source = [b"\xc3", "è".encode(), "é".encode(), b"\xe5\x8c"]

    images = map_byte_prefix(source, target, fallback=fallback)

    assert images.tolist() == [-1, 0, 2, 1]
    assert map_byte_prefix(source, target).tolist() == [0, 0, 2, 1]


def test_tokens_without_bytes_take_no_part() -> None:
    assert map_byte_prefix([b"", b"a"], [b"", b"a"]).tolist() == [-1, 1]
