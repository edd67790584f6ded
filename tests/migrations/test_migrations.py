"""Migrations up equal the models, and come down again, on both databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect

from app.db import migrate
from app.db.base import Base
from app.db.models import Job
from app.db.session import create_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_up_gives_exactly_the_models(empty: Engine) -> None:
    migrate.upgrade_engine(empty)

    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert Job.__tablename__ in tables(empty)


def test_down_leaves_nothing(empty: Engine) -> None:
    migrate.upgrade_engine(empty)

    migrate.downgrade_engine(empty, revision="base")

    assert tables(empty) == set()


def test_a_database_is_current_only_after_its_migrations(empty: Engine) -> None:
    before = migrate.is_current(empty)
    migrate.upgrade_engine(empty)

    assert (before, migrate.is_current(empty)) == (False, True)


def test_processes_that_start_at_once_all_find_the_tables(empty: Engine) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: migrate.upgrade_engine(empty), range(3)))

    assert tables(empty) == set(Base.metadata.tables)
