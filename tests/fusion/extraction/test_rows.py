"""Kept rows agree with the dense softmax they come from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.extraction.rows import KeptRows, keep_rows


def keep(
    logits: torch.Tensor, *, top_k: int = 4, next_ids: list[int] | None = None, draws: int = 0
) -> KeptRows:
    generator = torch.Generator().manual_seed(0)
    return keep_rows(
        logits,
        next_ids_R=torch.tensor(next_ids or [0] * len(logits)),
        top_k=top_k,
        uniforms_RM=torch.rand((len(logits), draws), generator=generator, dtype=torch.float64),
    )


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0]), top_k=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_kept_rows_agree_with_the_dense_distribution(seed: int, scale: float, top_k: int) -> None:
    logits = torch.randn((3, 20), generator=torch.Generator().manual_seed(seed)) * scale

    kept = keep(logits, top_k=top_k, next_ids=[5, -1, 19])

    dense = torch.log_softmax(logits.double(), dim=-1)
    torch.testing.assert_close(
        kept.top_logprobs.double(), dense.gather(-1, kept.top_ids), rtol=1e-5, atol=1e-5
    )
    assert (kept.top_logprobs[:, :-1] >= kept.top_logprobs[:, 1:]).all()
    outside = dense.scatter(-1, kept.top_ids, float("-inf")).logsumexp(-1)
    torch.testing.assert_close(kept.tail_logprobs.double(), outside, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        kept.next_logprobs[[0, 2]].double(), dense[[0, 2], [5, 19]], rtol=1e-5, atol=1e-5
    )
    assert kept.next_logprobs[1].isnan()


@pytest.mark.parametrize("num_ids", [127, 1000, 2560, 2600])
def test_the_top_of_a_large_vocabulary_is_that_of_a_full_sort(num_ids: int) -> None:
    logits = torch.randn((8, num_ids), generator=torch.Generator().manual_seed(num_ids))
    # The greatest side by side at the end: in one block, or in the ids after the last whole one.
    logits[0, -4:] += 10.0

    kept = keep(logits)

    dense = torch.log_softmax(logits.double(), dim=-1)
    expected = dense.sort(dim=-1, descending=True)
    assert torch.equal(kept.top_ids, expected.indices[:, :4])
    torch.testing.assert_close(kept.top_logprobs.double(), expected.values[:, :4], rtol=1e-5, atol=1e-5)
    outside = expected.values[:, 4:].logsumexp(-1)
    torch.testing.assert_close(kept.tail_logprobs.double(), outside, rtol=1e-5, atol=1e-5)


def test_the_tail_does_not_cancel_where_the_top_holds_nearly_everything() -> None:
    logits = torch.zeros((1, 100))
    logits[0, 0] = 40.0

    kept = keep(logits, top_k=1)

    assert kept.tail_logprobs.item() == pytest.approx(-40.0 + torch.log(torch.tensor(99.0)).item(), abs=1e-4)


def test_nothing_is_left_where_everything_is_kept() -> None:
    kept = keep(torch.randn(2, 6), top_k=10, draws=3)

    assert kept.top_ids.shape == (2, 6)
    assert kept.tail_logprobs.tolist() == [-float("inf")] * 2
    assert (kept.sample_ids == 0).all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_set_aside_alone(poison: float) -> None:
    logits = torch.randn(3, 30)
    logits[1, 7] = poison

    kept = keep(logits, draws=2)

    assert kept.is_finite.tolist() == [True, False, True]
    assert kept.top_logprobs[1].isnan().all()
    assert kept.tail_logprobs[1].isnan()
    assert kept.next_logprobs[1].isnan()
    assert not kept.top_logprobs[[0, 2]].isnan().any()


def test_an_impossible_token_is_not_an_error() -> None:
    logits = torch.randn(1, 30)
    logits[0, 3] = -float("inf")

    kept = keep(logits, next_ids=[3])

    assert kept.is_finite.all()
    assert kept.next_logprobs.item() == -float("inf")


def test_tail_samples_follow_the_tail() -> None:
    logits = torch.tensor([[5.0, 2.0, 1.0, 0.0, -30.0]])

    kept = keep(logits, top_k=1, draws=40_000)

    expected = torch.softmax(logits[0, 1:], dim=-1)
    counts = torch.bincount(kept.sample_ids[0], minlength=5)
    assert counts[0] == 0
    torch.testing.assert_close(counts[1:] / 40_000, expected, rtol=0, atol=0.01)
