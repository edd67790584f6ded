"""What a service has before anybody asked for it: a project, and an admin key for whoever runs it."""

from pathlib import Path

from sqlalchemy import Engine

from app.accounts import service
from app.accounts.projects import ensure_default_project
from app.accounts.scopes import ALL_SCOPES, Scope
from app.accounts.secret_files import load_pepper, write_secret
from app.db.migrate import is_current, require_answer
from app.db.session import create_engine, read_only, transaction
from app.errors import Unauthorized
from app.settings import Settings
from fusion.errors import InfrastructureError


def ensure_admin_key(engine: Engine, *, path: Path, pepper: bytes) -> str:
    """The admin key of the default project, kept in `path`, which only its owner can read.

    A file whose key no longer works (another database, revoked) is replaced: whoever starts the service on
    its own data folder could make a key anyway.
    """
    present = path.read_text().strip() if path.exists() else ""
    if _is_operators(engine, present, pepper=pepper):
        return present
    with transaction(engine) as session:
        project = ensure_default_project(session)
        _, text = service.create_key(
            session, project_id=project.id, name="admin", scopes=ALL_SCOPES, pepper=pepper
        )
        # Before the commit: a file without a row is mended by the next start, a row without a file never.
        write_secret(path, text + "\n")
    return text


def make_first_key(settings: Settings, *, path: Path) -> None:
    """`ensure_admin_key` for the service that the settings name, without starting it.

    Raises:
        InfrastructureError: its database does not answer, or its tables are not those of this release.
    """
    engine = create_engine(settings.database_url)
    try:
        _require_current_tables(engine)
        given = settings.key_pepper
        pepper = load_pepper(
            settings.key_pepper_file, given=given.get_secret_value() if given is not None else None
        )
        ensure_admin_key(engine, path=path, pepper=pepper)
    finally:
        engine.dispose()


def _is_operators(engine: Engine, text: str, *, pepper: bytes) -> bool:
    try:
        with read_only(engine) as session:
            principal = service.authenticate(session, text, pepper=pepper).principal
    except Unauthorized:
        return False
    return principal.may(Scope.ADMIN) and principal.may(Scope.OPERATOR)


def _require_current_tables(engine: Engine) -> None:
    require_answer(engine)
    if not is_current(engine):
        raise InfrastructureError(
            f"the tables of {engine.url.render_as_string(hide_password=True)} are not those of this release",
            code="database_not_migrated",
            hint="run `python -m app.db.migrate` first",
        )
