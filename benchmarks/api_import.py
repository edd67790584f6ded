"""Rows about the API process: what `import app.main` takes before the first request."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.measuring import relative_spread
from benchmarks.rows import Row
from benchmarks.workbench import Workbench

_HEAVY = ("torch", "transformers", "numpy", "pyarrow")
_PROGRAM = f"""
import json, sys, time
began = time.perf_counter()
import app.main
seconds = time.perf_counter() - began
from benchmarks.process_memory import resident_bytes
loaded = [name for name in {_HEAVY!r} if name in sys.modules]
print(json.dumps(dict(seconds=seconds, bytes=resident_bytes(), modules=len(sys.modules), heavy=loaded)))
"""


def rows(bench: Workbench) -> Iterator[Row]:
    """Time and memory, in fresh processes; files are in the page cache after the first, uncounted one."""
    found = [_import() for _ in range(bench.sizes.import_repetitions + 1)][1:]
    heavy = found[0]["heavy"]
    work = f"import app.main in a fresh process, {found[0]['modules']} modules"
    work += f", among them {', '.join(heavy)}" if heavy else ", no torch"
    seconds = [each["seconds"] for each in found]
    megabytes = [each["bytes"] / 1e6 for each in found]
    yield _row("api_import.time", work, "s", seconds)
    yield _row("api_import.memory", work, "MB", megabytes)


def _import() -> dict[str, Any]:
    command = [sys.executable, "-c", _PROGRAM]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    return found


def _row(name: str, work: str, unit: str, values: list[float]) -> Row:
    return Row(
        name=name,
        work=work,
        unit=unit,
        measured=statistics.median(values),
        noise_margin=relative_spread(values),
        details={"values": values},
    )
