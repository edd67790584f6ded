"""What an attempt writes after it was given up changes nothing."""

import random

from sqlalchemy import Engine

from tests.faults.zombies import WRITES, raise_zombies

NUM_ZOMBIES = 40


def test_a_stale_attempt_is_refused_whatever_it_tries(engine: Engine) -> None:
    seed = random.randrange(2**32)
    print("seed:", seed)

    refused, accepted, num_hindered = raise_zombies(engine, num=NUM_ZOMBIES, seed=seed)

    assert (accepted, num_hindered) == ({}, 0)
    assert refused.total() == NUM_ZOMBIES
    assert refused.keys() <= WRITES.keys()
