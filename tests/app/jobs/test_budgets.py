"""When an attempt is worth another one. Pure."""

import pytest

from app.jobs.budgets import (
    MAX_ERRORS,
    MAX_LOSSES,
    back_off_seconds,
    lost_for_good,
    next_try,
    next_try_after_loss,
)
from fusion.errors import CapacityError, CorpusInvalid, ErrorDict, InfrastructureError, InternalError

USER = CorpusInvalid("not JSON", code="json_broken").to_dict()
NETWORK = InfrastructureError("429", code="hub_unreachable").to_dict()
MEMORY = CapacityError("out of memory", code="out_of_memory").to_dict()
DISK = CapacityError("disk full", code="insufficient_disk").to_dict()
BUG = InternalError("KeyError", code="internal", fingerprint="a").to_dict()
OTHER_BUG = InternalError("KeyError", code="internal", fingerprint="b").to_dict()
SILENT = InfrastructureError("fell silent", code="worker_lost").to_dict()
CRASHED = InfrastructureError("SIGSEGV", code="stage_crashed").to_dict()
KILLED = InfrastructureError("killed", code="stage_killed", hint="less memory").to_dict()


def tries(error: ErrorDict) -> int:
    """How often a step is tried when it fails in the same way again and again."""
    earlier: list[ErrorDict] = []
    while next_try(error, earlier=earlier) is not None:
        earlier.append(error)
    return len(earlier) + 1


@pytest.mark.parametrize(("error", "expected"), [(USER, 1), (NETWORK, 5), (MEMORY, 3), (DISK, 3), (BUG, 2)])
def test_how_often_each_kind_of_error_is_tried(error: ErrorDict, expected: int) -> None:
    assert tries(error) == expected


def test_another_bug_is_another_matter_but_not_for_ever() -> None:
    assert next_try(OTHER_BUG, earlier=[BUG]) is not None
    unlike = [InternalError("x", code="internal", fingerprint=str(number)).to_dict() for number in range(4)]
    assert next_try(BUG, earlier=unlike) is None
    assert len(unlike) + 1 == MAX_ERRORS["internal"]


def test_errors_of_one_kind_do_not_spend_the_budget_of_another() -> None:
    assert next_try(BUG, earlier=[NETWORK] * 4) is not None
    assert next_try(NETWORK, earlier=[MEMORY] * 2) is not None


@pytest.mark.parametrize(("error", "halved"), [(MEMORY, True), (DISK, False), (NETWORK, False), (BUG, False)])
def test_only_memory_makes_batches_smaller(error: ErrorDict, halved: bool) -> None:
    found = next_try(error, earlier=[])

    assert found is not None
    assert found.halve_batches is halved


@pytest.mark.parametrize(("asked", "at_least"), [(45.0, 45.0), (0.0, 2.0), (1e9, 3600.0), (-5.0, 2.0)])
def test_a_server_that_asks_for_time_gets_it(asked: float, at_least: float) -> None:
    error = InfrastructureError("429", code="hub_unreachable", retry_after_seconds=asked).to_dict()

    found = next_try(error, earlier=[])

    assert found is not None
    assert at_least <= found.in_seconds <= max(at_least, 4.0)


def test_back_offs_double_and_are_spread() -> None:
    for num_earlier in range(12):
        waits = [back_off_seconds(num_earlier) for _ in range(200)]
        longest = min(600.0, 2.0 + 2.0 * 2**num_earlier)
        assert min(waits) >= 2.0
        assert max(waits) <= longest
        assert max(waits) - min(waits) > 0.5 * (min(598.0, longest - 2.0))


def test_losses_have_a_budget_of_their_own() -> None:
    assert next_try_after_loss(KILLED, earlier=[SILENT] * (MAX_LOSSES - 2)) is not None
    assert next_try_after_loss(KILLED, earlier=[SILENT] * (MAX_LOSSES - 1)) is None


@pytest.mark.parametrize(
    ("error", "earlier", "halved"),
    [
        (KILLED, [], False),
        (KILLED, [SILENT], False),
        (KILLED, [KILLED], True),
        (SILENT, [KILLED], False),
        (CRASHED, [CRASHED], False),
    ],
)
def test_a_kill_of_unknown_origin_makes_batches_smaller_when_it_comes_again(
    error: ErrorDict, earlier: list[ErrorDict], halved: bool
) -> None:
    found = next_try_after_loss(error, earlier=earlier)

    assert found is not None
    assert found.halve_batches is halved


def test_poison_names_every_loss_and_the_way_out() -> None:
    error = lost_for_good("train.fused", losses=[SILENT, SILENT, KILLED])

    assert (error["code"], error["category"], error["hint"]) == (
        "worker_lost",
        "infrastructure",
        "less memory",
    )
    assert "worker_lost, worker_lost, stage_killed" in error["message"]
