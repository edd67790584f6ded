"""How often the kernel has killed for lack of memory. SIGKILL alone does not say who sent it."""

from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc")


def count_oom_kills(*, cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int | None:
    """Kills in this process's memory cgroup, else on the whole machine; None where nobody counts.

    The kernel counts a kill before it sends the signal, so whoever sees the process dead sees the count.
    """
    for path in (*_counters_of_group(cgroups, proc), proc / "vmstat"):
        counted = _read_counter(path)
        if counted is not None:
            return counted
    return None


def _counters_of_group(cgroups: Path, proc: Path) -> list[Path]:
    """Where the group's counter may be, the nearest first, in either version of cgroups.

    A container sees its own group as the root of the tree, whatever path the process is told.
    """
    membership = proc / "self" / "cgroup"
    found: list[Path] = []
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (cgroups / "memory", "memory.oom_control") if controllers else (cgroups, "memory.events")
        group = top / path.lstrip("/")
        within = [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
        found += [folder / name for folder in within]
    return found


def _read_counter(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
