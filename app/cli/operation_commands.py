"""Commands for operators: housekeeper, gc, doctor, backup. They need the service's variables, and no API."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from app.cli.output import ExitCode, print_json, print_line, print_table, show_bytes


def housekeeper(*, data_dir: DataDirOption = DEFAULT_DATA_DIR, as_json: JsonOption = False) -> None:
    """Relay, reconcile and collect garbage in a process of its own. Any number may run."""
    from app.logs import configure_logs
    from app.operations.housekeeping import keep_house
    from app.settings import load_settings

    del as_json  # its log is JSON either way
    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level)
    keep_house(settings)


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    grace_hours: Annotated[
        float | None, typer.Option(min=0, help="Keep what is younger; FUSION_GC_GRACE_SECONDS if not given.")
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Delete stored bytes that nothing refers to any more, and what dead workers left on this machine.

    Safe while everything runs.
    """
    from dataclasses import asdict

    from app.db.migrate import require_answer
    from app.db.session import create_engine
    from app.operations.garbage import collect_garbage
    from app.settings import load_settings
    from app.storage.opening import open_store

    given = {} if grace_hours is None else {"gc_grace_seconds": grace_hours * 3600}
    settings = load_settings(data_dir=data_dir, **given)
    engine = create_engine(settings.database_url)
    require_answer(engine)
    report = collect_garbage(engine, open_store(settings.storage_url), settings, dry_run=dry_run)
    engine.dispose()
    if as_json:
        found = [asdict(item) for item in report.found]
        print_json({"dry_run": dry_run, "found": found, "num_bytes": report.num_bytes})
        return
    rows = [(item.kind, item.num, show_bytes(item.num_bytes)) for item in report.found]
    print_table(("kind", "number", "bytes"), rows)
    print_line(f"{show_bytes(report.num_bytes)} {'would be' if dry_run else 'were'} freed")


def backup(
    into: Annotated[Path, typer.Argument(help="Folder that must not exist yet.", show_default=False)],
    *,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Copy a service on SQLite, also while it runs, to a folder that can serve as its data folder."""
    from app.operations.backup import back_up
    from app.settings import load_settings

    report = back_up(load_settings(data_dir=data_dir), into=into)
    if as_json:
        print_json({"folder": str(into), "num_blobs": report.num_blobs, "num_bytes": report.num_bytes})
        return
    print_line(f"{into}: {report.num_blobs} stored files, {show_bytes(report.num_bytes)}, digests verified")


def doctor(
    *,
    verify_artifacts: Annotated[
        bool, typer.Option("--verify-artifacts", help="Also read every stored byte and check its digest.")
    ] = False,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Check the deployment from this machine and say what to mend. Exit code 1 when something is broken."""
    from dataclasses import asdict

    from app.operations.doctor.examination import examine
    from app.operations.doctor.findings import Level
    from app.settings import load_settings

    findings = examine(load_settings(data_dir=data_dir), verify_artifacts=verify_artifacts)
    is_broken = any(finding.level is Level.ERROR for finding in findings)
    if as_json:
        print_json({"healthy": not is_broken, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_line(f"{finding.level:<8}{finding.check}: {finding.detail}")
            if finding.hint is not None:
                print_line(f"        mend: {finding.hint}")
    if is_broken:
        raise typer.Exit(ExitCode.ERROR)
