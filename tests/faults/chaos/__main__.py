"""`make chaos`: torment both profiles and print what came of it.

Exit code 1 when anything was lost, done twice, wrong, or never ended.
"""

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import get_args

from tests.faults.chaos.run import ChaosReport, run_chaos
from tests.faults.controls import CONTROLS
from tests.faults.service import Profile

MINUTES: dict[Profile, float] = {"postgresql": 30.0, "sqlite": 10.0}
MAX_SHOWN = 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--profile", choices=get_args(Profile), action="append", help="both when not given")
    parser.add_argument("--minutes", type=float, help="30 on PostgreSQL, 10 on SQLite when not given")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--control", choices=CONTROLS, help="take a safeguard out: the run must end red")
    parser.add_argument("--keep", type=Path, help="leave logs and data in this folder")
    options = parser.parse_args()
    # So that the processes of the service go, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reports = []
    for profile in options.profile or ("postgresql", "sqlite"):
        minutes = options.minutes or MINUTES[profile]
        print(f"{profile}: {minutes:g} minutes with seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="fusion-chaos-") as temporary:
            folder = (options.keep or Path(temporary)) / profile
            report = run_chaos(
                folder, profile, seed=options.seed, seconds=60 * minutes, control=options.control
            )
        print_report(report)
        reports.append(report)
    sys.exit(0 if all(report.is_clean for report in reports) else 1)


def print_report(report: ChaosReport) -> None:
    """The table of a run, then what went wrong."""
    verdict, log = report.verdict, report.log
    rows: list[tuple[str, object]] = [
        ("faults", report.faults.total()),
        *((f"  {name}", num) for name, num in report.faults.most_common()),
        ("jobs", verdict.num_jobs),
        ("steps", verdict.num_steps),
        ("attempts", verdict.num_attempts),
        ("attempts lost", verdict.num_lost_attempts),
        ("stale attempts refused", report.num_stale_refused),
        ("submissions sent", log.num_requests),
        ("jobs acknowledged", len(log.told)),
        ("answers other than success", dict(log.num_refused)),
        ("retries asked for", log.num_retries),
        ("lost", verdict.num("lost")),
        ("double", verdict.num("double")),
        ("wrong", verdict.num("wrong")),
        ("unfinished", verdict.num("unfinished")),
        ("unexpected answers", len(report.unexpected)),
        ("settled after", f"{report.settle_seconds:.1f} s"),
    ]
    for label, value in rows:
        print(f"  {label:32} {value}")
    for kind, text in verdict.violations[:MAX_SHOWN]:
        print(f"  {kind.upper()}: {text}")
    for text in report.unexpected[:MAX_SHOWN]:
        print(f"  UNEXPECTED: {text}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
