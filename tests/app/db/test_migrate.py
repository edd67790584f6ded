"""`python -m app.db.migrate`, as an operator runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.db.migrate import is_current
from app.db.session import create_engine


def migrate(**environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app.db.migrate"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FUSION_")}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=False)


def test_the_command_brings_the_database_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"

    for _ in range(2):
        assert migrate(FUSION_DATABASE_URL=url).returncode == 0

    engine = create_engine(url)
    assert is_current(engine)
    engine.dispose()


def test_the_data_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"

    assert migrate(FUSION_DATA_DIR=str(folder)).returncode == 0

    assert (folder / "fusion.db").is_file()
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("FUSION_DATABASE_URL", "postgresql+psycopg://127.0.0.1:1/x", 1, "database_unreachable"),
        ("FUSION_DATABASE_URL", "sqlite:////no/such/folder/x.db", 1, "database_unreachable"),
        ("FUSION_DATA_DIR", "/dev/null/data", 2, "data_dir_unusable"),
        ("FUSION_PORT", "http", 2, "FUSION_PORT"),
    ],
)
def test_what_stands_in_the_way_is_one_line(name: str, value: str, code: int, said: str) -> None:
    done = migrate(**{name: value})

    assert done.returncode == code
    assert said in done.stderr
    assert (done.stderr.count("\n"), "hint: " in done.stderr) == (1, True)
