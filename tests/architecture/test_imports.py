"""What a fresh interpreter loads."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "accelerate", "numba", "pyarrow"}


@pytest.mark.parametrize("module", ["app.main", "fusion.spec", "app.jobs.service", "app.db.migrate"])
def test_the_service_loads_no_torch(module: str) -> None:
    assert loaded_by(module).isdisjoint(HEAVY)


def test_the_client_loads_nothing_of_the_server() -> None:
    assert loaded_by("app.client.client").isdisjoint(HEAVY | {"sqlalchemy", "celery", "fastapi", "alembic"})


def loaded_by(module: str) -> set[str]:
    """Top-level packages that importing `module` brings into a new interpreter."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120
    )
    return set(answer.stdout.split())
