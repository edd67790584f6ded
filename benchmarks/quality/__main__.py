"""`python -m benchmarks.quality`: what fusing is worth, measured in bits per byte on held-out text.

Trains sources and targets from scratch, then fuses with the presets and with every single change between
them, in several regimes and with several seeds, against the control with the same steps. Prints a table per
regime, writes JSON and markdown, and exits 1 when the goal is missed. Nothing is downloaded; what is done
is kept in the cache, so an interrupted run continues.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from benchmarks.quality.goal import judge
from benchmarks.quality.models import make_checkpoints
from benchmarks.quality.regimes import FULL, QUICK, Plan, Regime
from benchmarks.quality.report import RegimeReport, build_report, markdown
from benchmarks.quality.runs import Setting, held_out_documents, prepare_setting, run_variant
from benchmarks.quality.texts import trained_on
from benchmarks.quality.variants import CONTROL, DEFAULT

_ROOT = Path(__file__).parent.parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    plan = QUICK if options.quick else FULL
    began = time.monotonic()
    reports = [
        report
        for regime in plan.regimes
        if not options.only or regime.name in options.only
        for report in [_measure(plan, regime, cache=options.cache, console=console)]
    ]
    _write(options.out, reports, seconds=time.monotonic() - began)
    for report in reports:
        console.print(f"\n{report.regime['name']}: {report.regime['description']}", markup=False)
        console.print(markdown(report), markup=False, soft_wrap=True)
    if options.quick:
        console.print("Quick sizes: these figures say nothing about the goal.")
        return 0
    verdict = judge(reports)
    console.print("\n".join(verdict.sentences), markup=False, soft_wrap=True)
    return 0 if verdict.reached else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny models and texts, no judgement")
    parser.add_argument("--only", action="append", help="a regime; can be repeated")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results" / "quality.json")
    parser.add_argument("--cache", type=Path, default=_ROOT / ".bench" / "quality")
    return parser


def _measure(plan: Plan, regime: Regime, *, cache: Path, console: Console) -> RegimeReport:
    """All seeds of one regime, two at a time: models as small as these do not use a second core."""
    settings = [
        Setting(
            regime=regime,
            seed=seed,
            checkpoints=checkpoints,
            libraries=plan.libraries,
        )
        for seed, checkpoints in enumerate(make_checkpoints(plan, regime, cache=cache, say=console.print))
    ]
    folders = [cache / "runs" / f"{regime.name}-{setting.digest}" for setting in settings]
    names = [CONTROL, *(variant.name for variant in regime.variants)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(prepare_setting, settings, folders))
        jobs = {
            (name, setting.seed): pool.submit(run_variant, setting, folders[setting.seed], name)
            for name in names
            for setting in settings
        }
        for (name, seed), job in jobs.items():
            scores[seed][name] = job.result()
            console.print(f"{regime.name}: {name}, seed {seed}")
    return build_report(
        asdict(regime),
        held_out_documents(folders[0]),
        scores,
        fused=[variant.name for variant in regime.variants],
        control=CONTROL,
        default=DEFAULT.name,
        trained_on=trained_on(plan.libraries),
    )


def _write(path: Path, reports: Sequence[RegimeReport], *, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "format_version": 1,
        "seconds": round(seconds, 1),
        "regimes": [report.to_dict() for report in reports],
    }
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    tables = [f"## {report.regime['name']}\n\n{markdown(report)}\n" for report in reports]
    path.with_suffix(".md").write_text("\n".join(tables), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
