"""Vocabularies of any size, made up: how long a map takes depends on their number and spelling alone."""

import random
import string

MADE_UP_MARK = "▁"
_MEAN_LETTERS = 6.0
_SHARE_IN_COMMON = 0.6
"""About as many pieces as two tokenizers of English text and code share."""
_LETTERS = string.ascii_lowercase
_WEIGHTS = [1.0 / (rank + 2) for rank in range(len(_LETTERS))]


def made_up_pieces(num_pieces: int) -> tuple[list[str], list[str]]:
    """Two vocabularies of so many different pieces each, the same in every run; all letters are in both."""
    drawn = random.Random(num_pieces)
    num_common = int(num_pieces * _SHARE_IN_COMMON)
    pieces = dict.fromkeys([*_LETTERS, MADE_UP_MARK])
    while len(pieces) < 2 * num_pieces - num_common:
        letters = drawn.choices(_LETTERS, _WEIGHTS, k=1 + int(drawn.expovariate(1.0 / (_MEAN_LETTERS - 1.0))))
        pieces[("" if drawn.random() < 0.4 else MADE_UP_MARK) + "".join(letters)] = None
    spelled = list(pieces)
    return spelled[:num_pieces], spelled[:num_common] + spelled[num_pieces:]
