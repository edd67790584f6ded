"""How a machine says that it has no memory or no disk left.

Told by names, numbers and words, so that a stage without torch does not load it to ask.
"""

import errno
from typing import Final

from fusion.errors import CapacityError

_WORDS_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")
_CLASS_OF_TORCH: Final = "OutOfMemoryError"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory failed, on a GPU or, where torch has no class for it, on a CPU."""
    if isinstance(error, MemoryError) or any(
        kind.__name__ == _CLASS_OF_TORCH for kind in type(error).__mro__
    ):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(words in said for words in _WORDS_OF_MEMORY)


def out_of_memory(message: str) -> CapacityError:
    """The error of a stage that needs more memory than there is."""
    return CapacityError(
        message,
        code="out_of_memory",
        hint="lower training.max_tokens_per_micro_batch or strategy.extraction.max_tokens_per_batch, "
        "turn on training.gradient_checkpointing, or use a larger machine",
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether a disk, or what its user may take of it, is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
