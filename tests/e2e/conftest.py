"""What both profiles work on."""

from pathlib import Path

import pytest

from tests.support.tiny_jobs import save_models, write_corpus

pytest.register_assert_rewrite("tests.e2e.scenarios")


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of three families and a corpus of two domains, under one root."""
    folder = tmp_path_factory.mktemp("material")
    save_models(folder)
    write_corpus(folder / "corpus.jsonl")
    return folder
