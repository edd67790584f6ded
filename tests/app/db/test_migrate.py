"""`python -m app.db.migrate`, as an operator runs it."""

import os
import subprocess
import sys
from pathlib import Path

from app.db.migrate import is_current
from app.db.session import create_engine


def test_the_command_brings_the_database_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    environment = {**os.environ, "FUSION_DATABASE_URL": url}

    for _ in range(2):
        subprocess.run([sys.executable, "-m", "app.db.migrate"], env=environment, check=True)

    engine = create_engine(url)
    assert is_current(engine)
    engine.dispose()
