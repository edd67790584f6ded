"""How long nothing has been heard of a stage."""

from workers.silence import MAX_GAP_SECONDS, Silence


def test_everything_that_is_heard_ends_the_silence() -> None:
    clock = [0.0]
    silence = Silence(limit_seconds=10, now=lambda: clock[0])

    for second in range(1, 31):
        clock[0] = second
        silence.look(heard=second % 8 == 0)
        assert not silence.is_too_long


def test_silence_is_too_long_after_its_limit() -> None:
    clock = [0.0]
    silence = Silence(limit_seconds=10, now=lambda: clock[0])

    too_long = []
    for second in range(1, 13):
        clock[0] = second
        silence.look(heard=False)
        too_long.append(silence.is_too_long)

    assert too_long == [False] * 10 + [True] * 2


def test_a_supervisor_that_was_suspended_does_not_blame_the_stage() -> None:
    clock = [0.0]
    silence = Silence(limit_seconds=10, now=lambda: clock[0])

    clock[0] = 3600.0
    silence.look(heard=False)

    assert MAX_GAP_SECONDS < 10
    assert not silence.is_too_long
