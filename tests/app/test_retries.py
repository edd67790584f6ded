"""When something is tried again, by the schedule of webhooks."""

from datetime import UTC, datetime

import pytest

from app.retries import JITTER, MAX_WAIT_SECONDS, asked_seconds, next_try_in
from app.webhooks.schedule import RETRY_SECONDS

NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)


def test_pauses_grow_with_jitter_and_end() -> None:
    for num_tries, planned in enumerate(RETRY_SECONDS[1:], start=1):
        pauses = {next_try_in(num_tries, asked_seconds=None, pauses=RETRY_SECONDS) for _ in range(50)}

        assert len(pauses) > 1
        assert all(abs((pause or 0) - planned) <= JITTER * planned for pause in pauses)
    assert next_try_in(len(RETRY_SECONDS), asked_seconds=None, pauses=RETRY_SECONDS) is None


def test_a_receiver_lengthens_a_pause_within_reason() -> None:
    assert next_try_in(1, asked_seconds=60.0, pauses=RETRY_SECONDS) == 60.0
    assert (next_try_in(3, asked_seconds=60.0, pauses=RETRY_SECONDS) or 0) > 1000
    assert next_try_in(1, asked_seconds=1e9, pauses=RETRY_SECONDS) == MAX_WAIT_SECONDS
    assert next_try_in(len(RETRY_SECONDS), asked_seconds=60.0, pauses=RETRY_SECONDS) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 29 Nov 2026 12:02:00 GMT", 120.0),
        ("Sun, 29 Nov 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, None),
        ("Sun, 99 Nov 2026 12:02:00 GMT", None),
        ("Sun, 29 Nov 99999999999999999999 12:02:00 GMT", None),
        ("Sun, 29 Nov 2026 12:02:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert asked_seconds(text, now=NOW) == seconds
