"""Small captured windows, made from nothing but a number."""

import sys
import time
from pathlib import Path

import numpy as np

from fusion.io.capture_cache import CaptureCache, space_digest, window_key
from fusion.io.captures import Capture
from fusion.io.windows import Window

SPACE = space_digest(model="m", precision="float32")


def window(number: int) -> Window:
    return Window(document=number, domain="d", text=f"text {number}", ends_document=number % 2 == 0)


def key(number: int) -> bytes:
    return window_key(SPACE, window(number))


def capture(number: int) -> Capture:
    """Rows that differ from those of every other number."""
    random = np.random.default_rng(number)
    num_rows = number % 5
    return Capture(
        window_starts=np.array([0, num_rows], np.int64),
        ends=random.integers(0, 100, num_rows).astype(np.uint32),
        next_ids=random.integers(0, 100, num_rows).astype(np.int32),
        next_logprobs=random.random(num_rows).astype(np.float32),
        top_ids=random.integers(0, 100, (num_rows, 4)).astype(np.uint16),
        top_logprobs=random.random((num_rows, 4)).astype(np.float16),
        tail_logprobs=random.random(num_rows).astype(np.float16),
        sample_ids=np.zeros((num_rows, 0), np.uint16),
    )


def captures(numbers: range) -> dict[bytes, Capture]:
    return {key(number): capture(number) for number in numbers}


def is_right(found: Capture, number: int) -> bool:
    expected = capture(number)
    return all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        and getattr(found, name).dtype == getattr(expected, name).dtype
        for name in Capture.__slots__
    )


def open_cache(root: Path, *, damage: list[str] | None = None) -> CaptureCache:
    said = [] if damage is None else damage
    return CaptureCache(root, space=SPACE, facts={"model": "m"}, on_damage=said.append)


def main() -> None:
    """Another process: write packs of five windows, again and again, saying so after each."""
    root, first, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    cache, deadline, start = open_cache(root), time.monotonic() + seconds, first
    while time.monotonic() < deadline:
        cache.put(captures(range(start, start + 5)))
        print(start, flush=True)
        start += 5


if __name__ == "__main__":
    main()
