"""Asking a store about many objects within a given time, for callers who hold something meanwhile."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.storage.store import ObjectStore
from fusion.errors import InfrastructureError

_AT_ONCE: Final = 16


class StoreSlow(InfrastructureError):
    """The store did not answer in time."""


def sizes_of(store: ObjectStore, keys: Sequence[str], *, within_seconds: float) -> list[int | None]:
    """Sizes of objects in bytes, `None` where there is no such object, asked for side by side.

    Raises:
        StoreSlow: not all answers came in time; those that are under way are no longer waited for.
    """
    pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="sizes")
    try:
        return list(pool.map(store.size, keys, timeout=within_seconds))
    except TimeoutError as error:
        raise StoreSlow(
            f"the storage did not tell the sizes of {len(keys)} objects within {within_seconds:g} s",
            code="storage_slow",
            hint="check the storage and the network to it; the attempt is repeated",
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
