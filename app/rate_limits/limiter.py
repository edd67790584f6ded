"""Lets a request through or refuses it, by how many there were before it in this minute."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.errors import TooManyRequests
from app.rate_limits.counting import WINDOW_SECONDS, LocalCounter, RedisCounter
from app.rate_limits.limits import RateLimits

LOCAL_SHARE: Final = 4
"""While Redis does not answer, each process lets a quarter of the limit through."""

Who = Literal["key", "project", "address"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """Where somebody stands in the present minute."""

    who: Who
    limit: int
    used: int
    seconds_left: int

    @property
    def is_exceeded(self) -> bool:
        return self.used > self.limit


class Limiter:
    """One per API process."""

    def __init__(
        self, limits: RateLimits, *, redis_url: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._limits = limits
        self._shared = None if redis_url is None else RedisCounter(redis_url)
        self._local = LocalCounter()
        self._clock = clock

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()

    def require(self, **names: str) -> dict[str, str]:
        """Count a request of a `key`, a `project` or an `address`, in the order given, up to a refusal.

        Returns:
            Headers that say what is left (draft-ietf-httpapi-ratelimit-headers-10).

        Raises:
            TooManyRequests: one of them has asked too often in this minute.
        """
        counts: list[Count] = []
        for who, name in names.items():
            count = self._count(who, name)
            if count is None:
                continue
            counts.append(count)
            if count.is_exceeded:
                # What is refused to a key is not counted for its project: others have keys of it, too.
                raise TooManyRequests(
                    f"more than {count.limit} requests of one {count.who} within a minute",
                    hint=f"wait {count.seconds_left} seconds; an operator can raise FUSION_RATE_LIMITS",
                    headers={**headers_of(counts), "Retry-After": str(count.seconds_left)},
                )
        return headers_of(counts)

    def _count(self, who: str, name: str) -> Count | None:
        limit: int | None = getattr(self._limits, who)
        if limit is None:
            return None
        window, passed = divmod(self._clock(), WINDOW_SECONDS)
        used = None
        if self._shared is not None:
            used = self._shared.count(f"{who}/{name}", window=int(window))
            if used is None:
                limit = max(1, limit // LOCAL_SHARE)
        if used is None:
            used = self._local.count(f"{who}/{name}", window=int(window))
        kind: Who = "key" if who == "key" else "project" if who == "project" else "address"
        return Count(who=kind, limit=limit, used=used, seconds_left=math.ceil(WINDOW_SECONDS - passed))


def headers_of(counts: Sequence[Count]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit`; none where nothing is limited."""
    if not counts:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{item.who}";q={item.limit};w={WINDOW_SECONDS}' for item in counts),
        "RateLimit": ", ".join(
            f'"{item.who}";r={max(0, item.limit - item.used)};t={item.seconds_left}' for item in counts
        ),
    }
