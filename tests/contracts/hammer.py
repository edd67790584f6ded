"""Every check of schemathesis against a real server process on SQLite.

    python -m tests.contracts.hammer --requests 20000 --seed 1

prints a table of checks per route, every failure once, and ends with 1 when there is one.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from app.db.session import create_engine
from app.main import create_app
from app.settings import Settings
from tests.contracts.tally import Tally
from tests.support.api_process import ApiProcess, running_api
from tests.support.services import create_database, private_postgres
from tests.support.tenants import furnish

OPENED = {
    # What an URL may be is then what its schema says.
    "FUSION_WEBHOOK_ALLOW_HTTP": "true",
    "FUSION_WEBHOOK_PORTS": "",
    "FUSION_MAX_PART_BYTES": "100000",
    # Nobody runs the jobs that are submitted, and `/readyz` would say so with 503.
    "FUSION_STUCK_SECONDS": "86400",
    "FUSION_RATE_LIMITS": '{"key": null, "project": null, "address": null}',
}
MAX_EXAMPLES = 40
PHASES = "examples,coverage,fuzzing,stateful"
RUN_SECONDS = 3600.0
_ROOT = Path(__file__).parents[2]


def hammer(
    folder: Path,
    *,
    requests: int,
    seed: int,
    only: Sequence[str] = (),
    max_examples: int = MAX_EXAMPLES,
    database: str = "sqlite",
    phases: str = PHASES,
) -> Tally:
    """Send at least so many requests, in runs with the seeds `seed`, `seed + 1` and so on."""
    tally = Tally()
    with ExitStack() as held:
        environment = dict(OPENED)
        if database == "postgresql":
            server = held.enter_context(private_postgres())
            environment["FUSION_DATABASE_URL"] = create_database(server)
        api = held.enter_context(running_api(folder, environment=environment))
        _furnish(api.settings, folder)
        while tally.num_requests < requests:
            before = tally.num_requests
            events = folder / f"events-{seed}.ndjson"
            _run(api, events, seed=seed, only=only, max_examples=max_examples, phases=phases)
            tally.read(events)
            assert tally.num_requests > before, "schemathesis sent nothing"
            seed += 1
        log = api.log.read_text(encoding="utf-8", errors="replace")
    tally.leaks += [line for line in log.splitlines() if "Traceback" in line]
    return tally


def _furnish(settings: Settings, folder: Path) -> None:
    """Another project that owns one of everything."""
    app, engine = create_app(settings), create_engine(settings.database_url)
    (folder / "furniture").mkdir()
    furnish(app, engine, folder / "furniture", name="others")
    app.state.engine.dispose()
    engine.dispose()


def _run(
    api: ApiProcess, events: Path, *, seed: int, only: Sequence[str], max_examples: int, phases: str
) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"]
    options = {
        "--header": f"Authorization: Bearer {api.key}",
        "--seed": str(seed),
        "--phases": phases,
        "--max-examples": str(max_examples),
        "--generation-database": "none",
        "--report": "ndjson",
        "--report-ndjson-path": str(events),
        "--request-timeout": "60",
        "--suppress-health-check": "all",
    }
    words = [word for pair in options.items() for word in pair]
    chosen = ["--include-path-regex", "|".join(only)] if only else []
    flags = ["--continue-on-failure", "--no-shrink", "--no-color"]
    done = subprocess.run(
        [*command, *words, *chosen, *flags],
        # Where schemathesis leaves its caches.
        cwd=events.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.contracts.impatience", "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr


def table(tally: Tally) -> str:
    """Checks made, failed ones in brackets: a line per route, a column per check."""
    checks = sorted({check for _, check in tally.checked})
    failed = Counter((one.operation, one.check) for one in tally.failures)
    head = ["route", "requests", *(re.sub(r"_", " ", check) for check in checks)]
    rows = [
        [
            operation,
            str(tally.requests[operation]),
            *(_cell(tally.checked[operation, check], failed[operation, check]) for check in checks),
        ]
        for operation in sorted(tally.requests)
    ]
    sums = [
        _cell(
            sum(tally.checked[operation, check] for operation in tally.requests),
            sum(failed[operation, check] for operation in tally.requests),
        )
        for check in checks
    ]
    lines = [head, *rows, ["all", str(tally.num_requests), *sums]]
    return "\n".join("\t".join(line) for line in lines)


def summary(tally: Tally) -> str:
    """Every failure once per route, with an example."""
    seen = Counter((one.check, one.operation) for one in tally.failures)
    firsts = {(one.check, one.operation): one for one in reversed(tally.failures)}
    told = [
        f"{check} {operation} ({seen[check, operation]} times): {one.message}\n"
        f"    {one.request}\n    {one.status} {one.code} {' '.join(sorted(one.field_codes))}"
        for (check, operation), one in sorted(firsts.items())
    ]
    refused = Counter(one.code for one in tally.findings if one.is_semantic_refusal)
    counts = ", ".join(f"{code} {number}" for code, number in refused.most_common())
    return "\n".join(
        [
            *told,
            f"refused for reasons beyond the schema: {counts or 'none'}",
            f"leaks: {len(tally.leaks)}; errors: {len(tally.errors)}; "
            f"answers of 500 and more: {tally.num_server_errors}",
            *tally.leaks[:5],
            *tally.errors[:5],
        ]
    )


def _cell(checked: int, failed: int) -> str:
    return f"{checked} ({failed})" if failed else str(checked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--only", action="append", default=[], help="regular expression of paths")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = hammer(
            Path(folder), requests=given.requests, seed=given.seed, only=given.only, database=given.database
        )
    print(table(tally))
    print(summary(tally))
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
