"""A short chaos run on each profile; `make chaos` runs it for as long as one likes."""

import os
import random
from pathlib import Path
from typing import get_args

import pytest

from tests.faults.chaos.__main__ import print_report
from tests.faults.chaos.run import run_chaos
from tests.faults.service import Profile

SECONDS = float(os.environ.get("FUSION_TEST_CHAOS_SECONDS", "15"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", get_args(Profile))
def test_nothing_is_lost_or_done_twice(tmp_path: Path, profile: Profile) -> None:
    seed = random.randrange(2**32)
    print("seed:", seed)

    report = run_chaos(tmp_path / profile, profile, seed=seed, seconds=SECONDS)

    print_report(report)
    assert report.verdict.violations == []
    assert report.unexpected == []
    assert report.faults.total() > 0
    assert report.is_clean
