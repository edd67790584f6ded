"""What an operator does once before a service starts, and whether it is up."""

import httpx2
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.accounts.secret_files import load_pepper
from app.db.migrate import upgrade
from app.db.session import create_engine
from app.settings import Settings


def prepare_service(settings: Settings) -> tuple[Engine, str]:
    """Tables and an admin key; an engine on the database, and the key."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database_url)
    engine = create_engine(settings.database_url)
    pepper = load_pepper(settings.key_pepper_file)
    return engine, ensure_admin_key(engine, path=settings.data_dir / "admin.key", pepper=pepper)


def answers(url: str) -> bool:
    """Whether the service at `url` is alive."""
    try:
        return httpx2.get(f"{url}/livez", timeout=2).is_success
    except httpx2.TransportError:
        return False
