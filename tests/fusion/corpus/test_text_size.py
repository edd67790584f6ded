"""The estimate adds up along the text and asks no tokenizer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.corpus.text_size import TOKEN, cumulative_size


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0.0),
        ("word", 1.12),
        ("two words", 2.24),
        ("Word", 1.32),
        ("2024", 4.4),
        ("a  b", 3.31),
        ("a     b", 3.46),
        ("\n", 0.8),
        ("x=1", 2.83),
        ("é", 0.5),
        ("日本", 2.2),
        ("🎉", 3.0),
    ],
)
def test_the_size_of_small_texts(text: str, tokens: float) -> None:
    assert cumulative_size(text)[-1] / TOKEN == pytest.approx(tokens)


@given(text=st.text(max_size=200))
def test_there_is_one_entry_per_character_and_they_never_fall(text: str) -> None:
    sizes = cumulative_size(text)

    assert sizes.dtype == np.int64
    assert len(sizes) == len(text) + 1
    assert (np.diff(sizes) >= 0).all()


@given(first=st.text(max_size=50), second=st.text(max_size=50))
def test_what_follows_does_not_matter(first: str, second: str) -> None:
    assert cumulative_size(first + second)[: len(first) + 1].tolist() == cumulative_size(first).tolist()
