"""`python -m benchmarks`: measure, print a table, write JSON; exit 1 when a target is missed.

A target counts as missed when the ratio is beyond it by more than the row's noise margin. `--quick` shows in
seconds that every row runs; its sizes are too small to judge anything.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import alignment, api_import, extraction, gpu, scale, training, vocabulary, whole_job
from benchmarks.materials import make_materials
from benchmarks.report import quantity, table, write_json
from benchmarks.rows import Row, Verdict
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.workbench import Workbench

GROUPS: dict[str, Callable[[Workbench], Iterator[Row]]] = {
    "extraction": extraction.rows,
    "vocabulary": vocabulary.rows,
    "alignment": alignment.rows,
    "scale": scale.rows,
    "training": training.rows,
    "whole_job": whole_job.rows,
    "api_import": api_import.rows,
    "gpu": gpu.rows,
}
_WHY_NOT: dict[str, Callable[[], str | None]] = {"gpu": gpu.unavailable}
"""Groups that need what not every machine has; each says why it cannot run, or None."""
_ROOT = Path(__file__).parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen groups; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    sizes = QUICK if options.quick else FULL
    began = time.monotonic()
    rows = measure(
        sizes,
        groups=options.only or list(GROUPS),
        cache=options.cache,
        judged=not options.quick,
        console=console,
        peak_tflops=options.peak_tflops,
    )
    seconds = time.monotonic() - began
    write_json(
        options.out, rows, sizes=sizes, sizes_name="quick" if options.quick else "full", seconds=seconds
    )
    console.print(table(rows))
    console.print(f"{len(rows)} rows in {seconds:.0f} s, written to {options.out}")
    if options.quick:
        console.print("Quick sizes: these figures say nothing about the targets.")
        return 0
    return _conclude(rows, console=console)


def measure(
    sizes: Sizes,
    *,
    groups: Sequence[str],
    cache: Path,
    judged: bool,
    console: Console,
    peak_tflops: float | None = None,
) -> list[Row]:
    """The rows of all groups that can run here, each printed as it is done."""
    groups = [group for group in groups if _can_run(group, console=console)]
    rows: list[Row] = []
    if not groups:
        return rows
    with tempfile.TemporaryDirectory(prefix="fusion-benchmarks-") as scratch:
        materials = make_materials(cache, sizes, say=console.print)
        bench = Workbench(sizes, materials, Path(scratch), peak_tflops=peak_tflops)
        for group in groups:
            for row in GROUPS[group](bench):
                ratio = "" if row.ratio is None else f", ratio {row.ratio:.3g}"
                console.print(f"{row.name}: {quantity(row.measured, row.unit)}{ratio}")
                rows.append(replace(row, judged=judged))
    return rows


def _can_run(group: str, *, console: Console) -> bool:
    reason = _WHY_NOT[group]() if group in _WHY_NOT else None
    if reason is not None:
        console.print(f"{group}: skipped, {reason}")
    return reason is None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no judgement")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="a group; can be repeated")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results" / "latest.json")
    parser.add_argument("--cache", type=Path, default=_ROOT / ".bench", help="tokenizers and models")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, for the MFU, where no table knows it")
    return parser


def _conclude(rows: Sequence[Row], *, console: Console) -> int:
    if not rows:
        console.print("Nothing was measured.")
        return 0
    missed = [row for row in rows if row.verdict is Verdict.MISSED]
    for row in missed:
        console.print(
            f"[bold red]TARGET MISSED[/] {row.name}: ratio {row.ratio:.3g}, target {row.direction} "
            f"{row.target_ratio:g}, noise ± {row.noise_margin:.1%}"
        )
    if not missed:
        console.print("[bold green]Every target is reached[/], as far as the noise allows to tell.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
