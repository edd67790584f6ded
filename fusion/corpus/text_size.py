"""How long a text is, whoever reads it: an estimate in tokens that no tokenizer takes part in.

A tokenizer of 32,000 pieces makes one token of most words, and one each of most digits, line ends, runs of
spaces and marks, so counting those tells more than counting bytes: on code, prose and mark-up, 98 % of the
pieces of 6,000 characters have between 0.86 and 1.26 times as many tokens of Mistral 7B's tokenizer as
estimated, where an estimate from bytes is between 0.69 and 1.8 times off. Whole numbers, so every machine
finds the same.
"""

import numpy as np

from fusion.io.tensors import Array

TOKEN = 100
"""Units of the estimate: hundredths of a token."""

_WORD, _LETTER, _CAPITAL, _DIGIT, _MARK, _LINE_END, _CONTROL = 100, 3, 20, 110, 70, 80, 110
_SPACES, _FURTHER_SPACE = 120, 5
_OF_TWO_BYTES, _OF_THREE_BYTES, _OF_FOUR_BYTES = 50, 110, 300


def cumulative_size(text: str) -> Array:
    """int64 [len(text) + 1]; entry i is the estimate for the first i characters, in hundredths of a token."""
    # Half a surrogate pair is the tokenizers' to refuse.
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    sizes = _SIZE_OF_ASCII[np.minimum(codes, 128)]
    sizes[codes >= 128] = _OF_TWO_BYTES
    sizes[codes >= 0x800] = _OF_THREE_BYTES
    sizes[codes >= 0x10000] = _OF_FOUR_BYTES
    is_letter = _IS_LETTER[np.minimum(codes, 128)]
    sizes[_begins_run(is_letter)] += _WORD
    # One space belongs to the word behind it; several are a token of their own.
    repeats_space = np.zeros(len(codes), dtype=bool)
    repeats_space[1:] = (codes[1:] == ord(" ")) & (codes[:-1] == ord(" "))
    sizes[repeats_space] += _FURTHER_SPACE
    sizes[_begins_run(repeats_space)] += _SPACES
    return np.concatenate(([0], np.cumsum(sizes)))


def _begins_run(mask: Array) -> Array:
    begins = mask.copy()
    begins[1:] &= ~mask[:-1]
    return begins


def _ascii_sizes() -> Array:
    sizes = np.full(129, _MARK, dtype=np.int64)
    for code in range(128):
        character = chr(code)
        if character.isalpha():
            sizes[code] = _LETTER + (_CAPITAL if character.isupper() else 0)
        elif character.isdigit():
            sizes[code] = _DIGIT
        elif character == " ":
            sizes[code] = 0
        elif character in "\r\n":
            sizes[code] = _LINE_END
        elif code < ord(" "):
            sizes[code] = _CONTROL
    return sizes


_SIZE_OF_ASCII = _ascii_sizes()
_IS_LETTER = np.array([chr(code).isalpha() for code in range(128)] + [False])
