"""A process's memory as Linux counts it; this one's where no other is named."""

from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """What the process holds now."""
    return _status_bytes("VmRSS", pid)


def resident_bytes_of_family(pid: int) -> int:
    """What the process and everything below it hold now."""
    children = (_folder(pid) / "task" / str(pid) / "children").read_text().split()
    return resident_bytes(pid) + sum(resident_bytes_of_family(int(child)) for child in children)


def peak_bytes(pid: int | None = None) -> int:
    """The most it has held since it started, or since `reset_peak`."""
    return _status_bytes("VmHWM", pid)


def reset_peak(pid: int | None = None) -> None:
    """Forget the peak so far; loading a model may have needed more than what is measured."""
    (_folder(pid) / "clear_refs").write_text("5")


def _status_bytes(field: str, pid: int | None) -> int:
    lines = (_folder(pid) / "status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def _folder(pid: int | None) -> Path:
    return Path("/proc") / ("self" if pid is None else str(pid))
