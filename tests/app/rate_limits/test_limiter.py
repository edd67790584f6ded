"""Counting within a minute, without any Redis."""

import pytest

from app.errors import TooManyRequests
from app.rate_limits.limiter import LOCAL_SHARE, Limiter
from app.rate_limits.limits import RateLimits
from tests.support.services import free_port


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0 - 1_800_000_000.0 % 60

    def __call__(self) -> float:
        return self.now


def num_let_through(limiter: Limiter, *, tries: int, **names: str) -> int:
    let = 0
    for _ in range(tries):
        try:
            limiter.require(**names)
        except TooManyRequests:
            continue
        let += 1
    return let


def test_each_name_has_its_own_limit_and_a_new_minute_begins_anew() -> None:
    clock = Clock()
    limiter = Limiter(RateLimits(key=3, project=5), clock=clock)

    first = num_let_through(limiter, tries=5, key="a", project="p")
    # Two that were refused to the other key are not theirs.
    same_project = num_let_through(limiter, tries=5, key="b", project="p")
    another = num_let_through(limiter, tries=5, key="c", project="q")
    clock.now += 60

    assert (first, same_project, another) == (3, 2, 3)
    assert num_let_through(limiter, tries=5, key="a", project="p") == 3


def test_headers_say_what_is_left_and_a_refusal_when_to_come_again() -> None:
    clock = Clock()
    limiter = Limiter(RateLimits(key=2, project=None), clock=clock)
    clock.now += 18

    told = limiter.require(key="a", project="p")
    limiter.require(key="a", project="p")
    with pytest.raises(TooManyRequests, match="more than 2 requests of one key") as refused:
        limiter.require(key="a", project="p")

    assert told == {"RateLimit-Policy": '"key";q=2;w=60', "RateLimit": '"key";r=1;t=42'}
    assert refused.value.code == "rate_limit_exceeded"
    assert refused.value.headers["Retry-After"] == "42"
    assert refused.value.headers["RateLimit"] == '"key";r=0;t=42'


def test_who_waits_as_long_as_told_is_let_through() -> None:
    clock = Clock()
    limiter = Limiter(RateLimits(key=1), clock=clock)
    clock.now += 18.7
    limiter.require(key="a")

    with pytest.raises(TooManyRequests) as refused:
        limiter.require(key="a")
    clock.now += int(refused.value.headers["Retry-After"])

    assert num_let_through(limiter, tries=1, key="a") == 1


def test_without_a_limit_nothing_is_counted() -> None:
    limiter = Limiter(RateLimits(key=None, project=None, address=None))

    assert limiter.require(key="a", project="p") == {}


def test_a_redis_that_is_not_there_leaves_a_part_of_the_limit() -> None:
    limiter = Limiter(RateLimits(key=40), redis_url=f"redis://127.0.0.1:{free_port()}/0", clock=Clock())

    assert num_let_through(limiter, tries=40, key="a") == 40 // LOCAL_SHARE
