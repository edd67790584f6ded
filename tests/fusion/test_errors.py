"""Errors keep their meaning when they cross a process border."""

import pytest

from fusion import errors


@pytest.mark.parametrize(
    "error_class",
    [
        errors.UserError,
        errors.CapacityError,
        errors.InfrastructureError,
        errors.InternalError,
        errors.CorpusInvalid,
    ],
)
def test_round_trip_keeps_category_and_text(error_class: type[errors.FusionError]) -> None:
    error = error_class("line 3 is broken", code="corpus_broken_line", hint="mend it", pointer="/corpus")
    copy = errors.error_from_dict(dict(error.to_dict()))
    assert copy.to_dict() == error.to_dict()


def test_only_infrastructure_is_worth_another_try() -> None:
    retryable = {
        c.category
        for c in (errors.UserError, errors.CapacityError, errors.InfrastructureError)
        if c.retryable
    }
    assert retryable == {"infrastructure"}
