"""The scenarios on `fusion serve`: SQLite, local files, one polling worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scenarios import JobScenarios
from tests.e2e.stacks import Stack, embedded_stack

# A busy machine may need longer than a unit test is given.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, material: Path) -> Iterator[Stack]:
    with embedded_stack(tmp_path_factory.mktemp("embedded"), allowed_root=material) as running:
        yield running


class TestEmbedded(JobScenarios):
    """All of them."""
