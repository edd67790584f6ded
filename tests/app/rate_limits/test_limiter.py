"""Counting within a minute, without any Redis."""

import pytest

from app.errors import TooManyRequests
from app.rate_limits.addresses import caller_of
from app.rate_limits.counting import MAX_NAMES, LocalCounter
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


def test_who_keeps_asking_is_remembered_among_too_many_names() -> None:
    counter = LocalCounter()
    for stranger in range(MAX_NAMES - 1):
        counter.count(f"address/{stranger}", window=1)
    persistent = [counter.count("address/persistent", window=1)]
    for stranger in range(3 * 1000):
        if stranger % 1000 == 0:
            persistent.append(counter.count("address/persistent", window=1))
        counter.count(f"address/later {stranger}", window=1)

    assert persistent == [1, 2, 3, 4]
    assert counter.count("address/0", window=1) == 1
    assert counter.count(f"address/{MAX_NAMES - 2}", window=1) == 2


@pytest.mark.parametrize(
    ("host", "counted_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_ipv6_host_is_counted_by_its_network(host: str, counted_for: str) -> None:
    assert caller_of(host) == counted_for
