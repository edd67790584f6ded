"""What an operator does once before a service starts, and whether it is up."""

import os
import subprocess
import sys
from pathlib import Path

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
    upgrade(settings.database_url, worker_role=settings.worker_role)
    engine = create_engine(settings.database_url)
    pepper = load_pepper(settings.key_pepper_file)
    return engine, ensure_admin_key(engine, path=settings.data_dir / "admin.key", pepper=pepper)


def answers(url: str) -> bool:
    """Whether the service at `url` is alive."""
    try:
        return httpx2.get(f"{url}/livez", timeout=2).is_success
    except httpx2.TransportError:
        return False


def prepare_with(checkout: Path, settings: Settings) -> tuple[Engine, str]:
    """`prepare_service` as another release does it."""
    subprocess.run(
        [sys.executable, "-c", _PREPARE],
        check=True,
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "FUSION_DATA_DIR": str(settings.data_dir),
            "FUSION_DATABASE_URL": settings.database_url,
        },
    )
    key = (settings.data_dir / "admin.key").read_text(encoding="ascii").strip()
    return create_engine(settings.database_url), key


_PREPARE = """
from app.settings import load_settings
from tests.support.prepared_service import prepare_service

prepare_service(load_settings())
"""
