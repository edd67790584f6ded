"""This process's memory as Linux counts it."""

from pathlib import Path


def resident_bytes() -> int:
    """What the process holds now."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most it has held since it started, or since `reset_peak`."""
    return _status_bytes("VmHWM")


def reset_peak() -> None:
    """Forget the peak so far; loading a model may have needed more than what is measured."""
    Path("/proc/self/clear_refs").write_text("5")


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
