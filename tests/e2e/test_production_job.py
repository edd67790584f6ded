"""The scenarios on PostgreSQL, Redis, uvicorn and two Celery workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenarios import JobScenarios
from tests.e2e.stacks import Stack, production_stack
from tests.support.services import create_database

# A busy machine may need longer than a unit test is given.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, material: Path, postgres_server: str, redis_server: str
) -> Iterator[Stack]:
    with production_stack(
        tmp_path_factory.mktemp("production"),
        allowed_root=material,
        database_url=create_database(postgres_server),
        broker_url=redis_server,
    ) as running:
        yield running


class TestProduction(JobScenarios):
    """All of them."""
