"""What a service has before anybody asked for it: a project, and on one's own machine an admin key."""

from pathlib import Path

from sqlalchemy import Engine

from app.accounts import service
from app.accounts.keys import Scope
from app.accounts.secret_files import write_secret
from app.db.session import read_only, transaction


def ensure_project(engine: Engine) -> str:
    """Id of the default project, created on the first start."""
    with transaction(engine) as session:
        return service.ensure_default_project(session).id


def ensure_admin_key(engine: Engine, *, path: Path, pepper: bytes) -> str:
    """The admin key of the default project, kept in `path`, which only its owner can read.

    A file whose key no longer works (another database, revoked) is replaced: whoever starts the service on
    its own data folder could make a key anyway.
    """
    present = path.read_text().strip() if path.exists() else ""
    with read_only(engine) as session:
        found = service.authenticate(session, present, pepper=pepper)
    if found is not None and found.principal.may(Scope.ADMIN):
        return present
    with transaction(engine) as session:
        project = service.ensure_default_project(session)
        _, text = service.create_key(
            session, project_id=project.id, name="admin", scopes=service.ALL_SCOPES, pepper=pepper
        )
        # Before the commit: a file without a row is mended by the next start, a row without a file never.
        write_secret(path, text + "\n")
    return text
