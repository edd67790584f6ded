"""One rule for exhausted memory and disks, which no light stage pays torch for."""

import errno
import subprocess
import sys

import pytest
import torch

from fusion.exhaustion import is_disk_full, is_out_of_memory


class _OfSomeDevice(torch.OutOfMemoryError):
    pass


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA"), True),
        (_OfSomeDevice("XPU"), True),
        (OSError(errno.ENOMEM, "kein Speicher"), True),
        (OSError("mmap: Cannot allocate memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18.0 GB)"), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("out of memory"), False),
        (FileNotFoundError(errno.ENOENT, "No such file", "out of memory.txt"), False),
    ],
)
def test_failed_memory_is_told_from_mistakes(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (RuntimeError("No space left on device"), False),
    ],
)
def test_a_full_disk_is_told_from_a_broken_one(error: Exception, is_full: bool) -> None:
    assert is_disk_full(error) is is_full


def test_asking_loads_no_torch() -> None:
    script = (
        "import sys, fusion.exhaustion as e; e.is_out_of_memory(MemoryError()); print('torch' in sys.modules)"
    )
    asked = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert asked.stdout.strip() == "False"
