"""The result as a table and as JSON."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.table import Table

from benchmarks.rows import NO_TARGET, Direction, Row, Verdict
from benchmarks.sizes import Sizes

_STYLE = {
    Verdict.OK: "green",
    Verdict.WITHIN_NOISE: "yellow",
    Verdict.MISSED: "bold red",
    Verdict.NO_TARGET: "dim",
    Verdict.NOT_JUDGED: "dim",
}
_SIGN: dict[Direction, str] = {"at least": "≥", "at most": "≤"}


def table(rows: Sequence[Row]) -> Table:
    """All rows; the basis of each comparison is in it, so no figure can be quoted for another."""
    view = Table(title="fusion benchmarks", show_lines=True, title_justify="left")
    view.add_column("row and work", min_width=40)
    view.add_column("measured", justify="right")
    view.add_column("compared with", min_width=36)
    for heading in ("ratio", "target", "noise"):
        view.add_column(heading, justify="right")
    view.add_column("verdict")
    for row in rows:
        view.add_row(
            f"[bold]{row.name}[/]\n{row.work}",
            quantity(row.measured, row.unit),
            _compared(row),
            "" if row.ratio is None else f"{row.ratio:.3g}",
            "" if row.target_ratio is None else f"{_SIGN[row.direction]} {row.target_ratio:g}",
            f"± {row.noise_margin:.1%}",
            f"[{_STYLE[row.verdict]}]{row.verdict}[/]",
        )
    return view


def quantity(value: float, unit: str) -> str:
    """Three digits, or whole numbers from a thousand on."""
    digits = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{digits}\u00a0{unit}"


def write_json(path: Path, rows: Sequence[Row], *, sizes: Sizes, sizes_name: str, seconds: float) -> None:
    """Rows, and everything about the machine and the sizes that the figures depend on."""
    data = {
        "format_version": 1,
        "made_at": int(time.time()),
        "seconds": round(seconds, 1),
        "sizes_name": sizes_name,
        "sizes": asdict(sizes),
        "machine": _machine(),
        "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _compared(row: Row) -> str:
    if row.compared is None:
        return ""
    basis = "" if row.basis == NO_TARGET else f"\n[dim]{row.basis}[/]"
    return f"{quantity(row.compared, row.unit)}: {row.compared_with}{basis}"


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
