"""A short run of every check of schemathesis against a real server; `make hammer` is the long one."""

from pathlib import Path

import pytest

from tests.contracts.hammer import hammer, summary

PATHS = ["^/v1/(webhook|api_keys|me|usage|audit|jobs/counts)", "^/livez"]


@pytest.mark.timeout(900)
def test_the_api_keeps_what_its_document_promises(tmp_path: Path) -> None:
    tally = hammer(
        tmp_path, requests=1, seed=1, only=PATHS, max_examples=2, phases="examples,coverage,fuzzing"
    )

    assert tally.num_requests > 300
    assert tally.is_clean, summary(tally)
