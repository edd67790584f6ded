"""What runs on this machine: families of processes, and names for them that outlive their ids."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def members_of_session(session: int) -> list[int]:
    """Living processes whose session or group is `session`, and everything that descends from them."""
    table = dict(_process_table())
    found = {pid for pid, (_, group, own_session) in table.items() if session in (pid, group, own_session)}
    while True:
        more = {pid for pid, (parent, _, _) in table.items() if parent in found} - found
        if not more:
            return sorted(found)
        found |= more


def start_ticks(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with the id it names one process for good."""
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


def leaders_given(argument: str) -> list[int]:
    """Living leaders of sessions with this word in their command line."""
    word = os.fsencode(argument)
    return [pid for pid, (_, _, session) in _process_table() if session == pid and word in _command_line(pid)]


def own_place() -> str:
    """Start of the machine and namespace of processes: where ids mean the same; empty where nobody tells."""
    try:
        boot_id = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot_id} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_table() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(pid, (parent, group, session)) of everything that runs, zombies left out."""
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields is not None and fields[0] not in ("Z", "X"):
                yield int(entry.name), (int(fields[1]), int(fields[2]), int(fields[3]))


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command name, which may itself hold spaces and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _command_line(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
