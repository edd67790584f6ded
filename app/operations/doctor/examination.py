"""All checks, one after the other; a check that cannot be made is a finding, too."""

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.db.session import create_engine
from app.operations.doctor.artifacts import check_artifacts
from app.operations.doctor.database import check_database
from app.operations.doctor.findings import Finding, Level, error
from app.operations.doctor.surroundings import check_broker, check_disk, check_settings, check_storage
from app.settings import Settings
from app.storage.opening import open_store
from fusion.errors import FusionError


def examine(settings: Settings, *, verify_artifacts: bool = False) -> list[Finding]:
    """Look at everything; nothing is changed, but for a probe in the store that is deleted again."""
    engine = create_engine(settings.database_url)
    try:
        findings = [
            *check_settings(settings),
            *check_database(engine, settings),
            *check_broker(settings),
            *check_storage(settings),
            *check_disk(settings),
        ]
        if verify_artifacts:
            findings += _verify(engine, settings, findings)
    finally:
        engine.dispose()
    return findings


def _verify(engine: Engine, settings: Settings, so_far: list[Finding]) -> list[Finding]:
    broken = {finding.check for finding in so_far if finding.level is Level.ERROR}
    if broken & {"database", "migrations", "storage"}:
        return [error("artifacts", "not verified", hint="mend database and storage first")]
    try:
        return list(check_artifacts(engine, open_store(settings.storage_url)))
    except (FusionError, DBAPIError) as failure:
        return [error("artifacts", f"not verified: {failure}", hint="mend what failed and run it again")]
