"""How the command line speaks: JSON for programs, tables for terminals, plain lines for pipes."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class ExitCode(IntEnum):
    """What a script can tell from the exit status."""

    OK = 0
    ERROR = 1
    USAGE = 2
    AUTHENTICATION = 3
    NOT_FOUND = 4
    JOB_FAILED = 5
    JOB_CANCELLED = 6


EXIT_CODE_OF_STATUS = {"failed": ExitCode.JOB_FAILED, "cancelled": ExitCode.JOB_CANCELLED}


def print_json(value: object) -> None:
    """One JSON document, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json_line(value: object) -> None:
    """One JSON document on one line, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    sys.stdout.write(harmless(text) + "\n")
    sys.stdout.flush()


def print_error(message: str, *, hint: str | None = None, details: Sequence[str] = ()) -> None:
    """An error on standard error: what happened, then the way out."""
    lines = [f"error: {message}", *(f"  {detail}" for detail in details)]
    if hint:
        lines.append(f"hint: {hint}")
    sys.stderr.write(harmless("\n".join(lines)) + "\n")


def harmless(text: str) -> str:
    """Text of others without what commands a terminal: escape sequences are spelled out."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: ascii(found[0])[1:-1], text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; tab-separated lines, header first, anywhere else."""
    texts = [["" if cell is None else harmless(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *texts]:
            print_line("\t".join(line))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for line in texts:
        table.add_row(*(Text(cell) for cell in line))
    terminal().print(table)


def terminal() -> "Console":
    """Standard output as a rich console; text is never taken for markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False)


def show_time(unix_seconds: int | None) -> str:
    """A moment in UTC."""
    if unix_seconds is None:
        return ""
    return datetime.fromtimestamp(unix_seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def show_duration(seconds: float | None) -> str:
    """A span for people: `1h02m`, `3m20s`, `12s`."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def show_bytes(count: float) -> str:
    """A size for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
