"""A shard is captured the same way whatever the batching."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import ModelOutput

from fusion.errors import CapacityError
from fusion.extraction.batch_budget import TokenBudget
from fusion.extraction.capturing import CaptureSettings, PaddingCount, _num_sequences, capture_shard
from fusion.extraction.head_threads import HeadThreads
from fusion.extraction.logit_rows import Keep, LogitRows
from fusion.extraction.shard_text import ShardText, encode_shard
from fusion.io.captures import NO_TOKEN, Capture
from fusion.io.windows import Window
from fusion.llms.loading import load_model, load_tokenizer
from fusion.llms.token_bytes import TextEncoder
from tests.support.tiny_families import FAMILIES, VOCABULARY
from tests.support.tiny_models import CONFIG_OF_FAMILY, save_tiny_checkpoint

CPU = torch.device("cpu")
TEXTS = [
    "def add(a, b):\n    return a + b\n",
    " lead",
    "naïve 🎉 <s>",
    "x",
    "The models read the same text. " * 3,
]
WINDOWS = [
    Window(document=n, domain="d", text=text, ends_document=n % 2 == 0) for n, text in enumerate(TEXTS)
]
# One batch in all, against one window per batch.
LARGE, SMALL = 100_000, 1


def build(folder: Path, *, family: str, tokenizer: str) -> tuple[torch.nn.Module, TextEncoder, ShardText]:
    save_tiny_checkpoint(folder, family=family, tokenizer=tokenizer)
    encoder = TextEncoder(load_tokenizer(folder))
    assert encoder.start_id is not None
    text = encode_shard(WINDOWS, encoder=encoder, start_id=encoder.start_id)
    return load_model(folder, dtype="float32", device=CPU), encoder, text


def rows_of(model: torch.nn.Module, *, rows_per_chunk: int = 7) -> LogitRows:
    return LogitRows(model, rows_per_chunk=rows_per_chunk)


def capture(
    text: ShardText, model: LogitRows, *, size: int, budget: TokenBudget | int = LARGE, samples: int = 0
) -> Capture:
    return capture_shard(
        text,
        model=model,
        device=CPU,
        settings=CaptureSettings(num_valid_ids=size, top_k=8, num_tail_samples=samples, seed=3),
        budget=TokenBudget(max_tokens=budget) if isinstance(budget, int) else budget,
        padding=PaddingCount(),
        on_batch=lambda num_windows, num_rows: None,
    )


@pytest.mark.parametrize("tokenizer", ["llama_like", "mpt_like"])
@pytest.mark.parametrize("family", sorted(CONFIG_OF_FAMILY))
def test_captures_agree_with_the_dense_softmax(tmp_path: Path, family: str, tokenizer: str) -> None:
    model, encoder, text = build(tmp_path, family=family, tokenizer=tokenizer)

    captured = capture(text, rows_of(model), size=encoder.size)

    for window, source in enumerate(WINDOWS):
        rows = captured.rows_of(window)
        encoded = encoder.encode(source.text)
        input_ids = [encoder.start_id, *encoded.ids.tolist()]
        with torch.inference_mode():
            logits = model(torch.tensor([input_ids])).logits[0, :, : encoder.size]
        dense = torch.log_softmax(logits.double(), dim=-1).numpy()
        last = encoder.eos_id if source.ends_document else NO_TOKEN
        next_ids = [*encoded.ids.tolist(), last]
        assert captured.next_ids[rows].tolist() == next_ids
        assert captured.ends[rows].tolist() == [0, *encoded.ends.tolist()]
        top_ids = captured.top_ids[rows].astype(int)
        kept = np.take_along_axis(dense, top_ids, axis=1)
        np.testing.assert_allclose(captured.top_logprobs[rows], kept, atol=6e-3)
        np.testing.assert_allclose(kept[:, -1], np.sort(dense, axis=1)[:, -8], atol=1e-5)
        np.testing.assert_allclose(np.exp(captured.tail_logprobs[rows]), 1 - np.exp(kept).sum(1), atol=1e-3)
        known = np.array(next_ids) != NO_TOKEN
        expected = dense[np.arange(len(dense)), next_ids]
        np.testing.assert_allclose(captured.next_logprobs[rows][known], expected[known], atol=1e-4)
        assert np.isnan(captured.next_logprobs[rows][~known]).all()


def test_padding_columns_of_the_head_are_never_kept(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="gpt_neox", tokenizer="mpt_like")
    with torch.no_grad():
        model.get_output_embeddings().weight[encoder.size :] = float("nan")

    captured = capture(text, rows_of(model), size=encoder.size)

    assert captured.top_ids.max() < encoder.size
    assert not captured.quarantined.any()
    assert captured.top_ids.dtype == np.uint16


def test_batching_and_chunking_change_nothing_but_rounding(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="mpt", tokenizer="mpt_like")

    one = capture(text, rows_of(model, rows_per_chunk=1000), size=encoder.size, budget=LARGE, samples=4)
    many = capture(text, rows_of(model, rows_per_chunk=3), size=encoder.size, budget=SMALL, samples=4)

    np.testing.assert_allclose(one.next_logprobs, many.next_logprobs, atol=1e-4)
    np.testing.assert_allclose(one.tail_logprobs, many.tail_logprobs, atol=2e-3)
    assert (one.top_ids == many.top_ids).mean() > 0.99
    assert (one.sample_ids == many.sample_ids).mean() > 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gemma2", "gemma3", "cohere", "granite"])
def test_factors_and_soft_caps_are_those_of_the_model(family: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]()).to(dtype).eval()
    with torch.no_grad():
        # Far beyond what random weights give, so that the caps bite.
        model.get_output_embeddings().weight.mul_(8.0)
    input_ids_BT = torch.randint(VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(1))
    rows = rows_of(model)
    seen_RV = torch.full((33, VOCABULARY), torch.nan)

    rows.visit(
        input_ids_BT,
        is_real_BT=torch.ones_like(input_ids_BT, dtype=torch.bool),
        keep=lambda chunk, logits_RV: seen_RV[chunk].copy_(logits_RV),
    )

    with torch.inference_mode():
        own_RV = model(input_ids_BT).logits.flatten(0, 1).float()
    assert rows.whole_reason is None
    rounding = 1e-5 if dtype == torch.float32 else 2.0**-6
    torch.testing.assert_close(
        seen_RV.log_softmax(-1), own_RV.log_softmax(-1), rtol=0.0, atol=rounding * float(own_RV.abs().max())
    )


def test_a_model_that_does_more_to_its_logits_is_run_whole(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    plain = capture(text, rows_of(model), size=encoder.size)

    def sharpen(_module: torch.nn.Module, _inputs: object, output: ModelOutput) -> ModelOutput:
        output["logits"] = output["logits"] * output["logits"].abs()
        return output

    model.register_forward_hook(sharpen)
    rows = rows_of(model)
    captured = capture(text, rows, size=encoder.size)

    assert rows.whole_reason is not None
    assert "after the output layer" in rows.whole_reason
    assert not np.allclose(captured.next_logprobs, plain.next_logprobs, equal_nan=True, atol=1e-3)


def test_nan_in_one_embedding_sets_aside_the_windows_that_read_it(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    poisoned = encoder.encode("🎉").ids[-1]
    with torch.no_grad():
        model.get_input_embeddings().weight[poisoned] = float("nan")

    captured = capture(text, rows_of(model), size=encoder.size)

    hit = [bool(captured.quarantined[captured.rows_of(window)].any()) for window in range(len(WINDOWS))]
    assert hit == [False, False, True, False, False]
    assert np.isnan(captured.next_logprobs[captured.quarantined]).all()


class SmallDevice:
    """Logits of a real model on a device that holds only a few positions."""

    def __init__(self, rows: LogitRows, *, max_positions: int, error: Exception | None = None) -> None:
        self._rows = rows
        self._error = error or torch.OutOfMemoryError("out of memory")
        self._max_positions = max_positions

    def visit(self, input_ids_BT: Tensor, *, is_real_BT: Tensor, keep: Keep) -> None:
        if input_ids_BT.numel() > self._max_positions:
            raise self._error
        self._rows.visit(input_ids_BT, is_real_BT=is_real_BT, keep=keep)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
def test_batches_shrink_until_they_fit(tmp_path: Path, error: Exception) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    budget = TokenBudget(max_tokens=LARGE)
    longest = int(text.lengths.max())

    captured = capture(
        text,
        SmallDevice(rows_of(model), max_positions=longest, error=error),
        size=encoder.size,
        budget=budget,
    )

    expected = capture(text, rows_of(model), size=encoder.size)
    np.testing.assert_allclose(captured.next_logprobs, expected.next_logprobs, atol=1e-4)
    assert budget.num_halvings > 0
    assert budget.max_tokens < LARGE


def test_a_window_that_never_fits_is_a_capacity_error(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")

    with pytest.raises(CapacityError) as caught:
        capture(text, SmallDevice(rows_of(model), max_positions=3), size=encoder.size)

    assert caught.value.code == "device_memory_exhausted"


def test_tail_samples_do_not_depend_on_where_a_window_lies(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    moved = encode_shard(WINDOWS[::-1], encoder=encoder, start_id=1)

    here, there = (capture(t, rows_of(model), size=encoder.size, samples=4) for t in (text, moved))

    for window in range(len(WINDOWS)):
        drawn = here.sample_ids[here.rows_of(window)]
        drawn_elsewhere = there.sample_ids[there.rows_of(len(WINDOWS) - 1 - window)]
        assert (drawn == drawn_elsewhere).mean() > 0.95


def test_an_error_that_is_not_about_memory_is_not_swallowed(tmp_path: Path) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    broken = SmallDevice(rows_of(model), max_positions=3, error=RuntimeError("shapes do not match"))

    with pytest.raises(RuntimeError, match="shapes do not match"):
        capture(text, broken, size=encoder.size)


def test_the_number_of_threads_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, encoder, text = build(tmp_path, family="llama", tokenizer="llama_like")
    alone = capture(text, rows_of(model), size=encoder.size, samples=2)
    # Not torch's own number: that would be set for all tests to come.
    monkeypatch.setattr("fusion.extraction.logit_rows.HeadThreads", lambda _: HeadThreads(3))

    shared = capture(text, rows_of(model), size=encoder.size, samples=2)

    np.testing.assert_array_equal(alone.top_ids, shared.top_ids)
    np.testing.assert_array_equal(alone.next_logprobs, shared.next_logprobs)
    np.testing.assert_array_equal(alone.sample_ids, shared.sample_ids)


def test_a_batch_of_unlike_windows_is_padded_little() -> None:
    lengths = np.array([100, 99, 98, 60, 59, 58, 10])

    assert _num_sequences(lengths, max_tokens=1000) == 3
    assert _num_sequences(lengths, max_tokens=250) == 2
    # A batch far below the budget takes what is there.
    assert _num_sequences(lengths, max_tokens=100_000) == 7
    assert _num_sequences(lengths, max_tokens=1) == 1


def test_lossy_windows_have_no_rows(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path)
    encoder = TextEncoder(load_tokenizer(tmp_path))

    text = encode_shard([WINDOWS[0], replace(WINDOWS[1], text="▁"), WINDOWS[2]], encoder=encoder, start_id=1)

    assert text.num_lossy_windows == 1
    assert text.lengths.tolist()[1] == 0
    assert text.num_rows == text.lengths[[0, 2]].sum()
