"""Rows about a GPU: a Llama of about 1B parameters in bf16, trained with fusion and without, and extracted.

The functions take sizes and device, so that the tests run every line of them on a CPU.
"""

import gc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.flops import forward_flops_per_token, peak_flops
from benchmarks.gpu_model import GpuModel, GpuSizes, matrix_product_share, peak_memory_bytes
from benchmarks.measuring import Pair, interleaved
from benchmarks.rows import SAME_RUN, Row
from benchmarks.training_block import Method
from benchmarks.workbench import Workbench

FULL_GPU = GpuSizes(
    hidden_size=2048,
    intermediate_size=8192,
    num_layers=16,
    num_heads=32,
    num_key_value_heads=8,
    num_tokens=2048,
    num_windows=4,
    repetitions=10,
)
VOCABULARY_SIZES = (32_000, 152_000)
_MAX_RATIO = 1.10
_MIN_EXTRACTION_RATIO = 0.85
_WORDS: dict[Method, str] = {"transformers": "plain CLM (transformers)", "control": "plain CLM (this engine)"}


def unavailable() -> str | None:
    """Why this group cannot run here, or None where it can."""
    return None if torch.cuda.is_available() else "torch finds no CUDA device"


def rows(bench: Workbench) -> Iterator[Row]:
    """All rows on the first GPU, per vocabulary size."""
    device = torch.device("cuda", 0)
    name = torch.cuda.get_device_name(device)
    peak = peak_flops(name, stated_tflops=bench.peak_tflops)
    for vocabulary_size in VOCABULARY_SIZES:
        yield from device_rows(
            bench.scratch / f"gpu-{vocabulary_size}",
            FULL_GPU,
            vocabulary_size=vocabulary_size,
            device=device,
            device_name=name,
            peak=peak,
        )
        # The next model needs the memory of this one.
        gc.collect()
        torch.cuda.empty_cache()


def device_rows(
    folder: Path,
    sizes: GpuSizes,
    *,
    vocabulary_size: int,
    device: torch.device,
    device_name: str,
    peak: float | None,
) -> Iterator[Row]:
    """Training against plain CLM, its MFU, memory and profile; extraction against a bare forward pass.

    Args:
        peak: FLOP/s that the MFU is relative to; without one there is no MFU.
    """
    model = GpuModel(folder, sizes, vocabulary_size=vocabulary_size, device=device)
    work = f"{device_name}: {model.num_batch_tokens:,} tokens, V = {vocabulary_size:,}, bf16"
    for method in _WORDS:
        pair = interleaved(
            partial(model.step, "fused"),
            partial(model.step, method),
            repetitions=sizes.repetitions,
        )
        yield _step_time(model, pair, method=method, work=work)
    # Of the last pair: both were measured in the same minutes as the comparison.
    yield _speed(model, "gpu_training", pair.first.median, passes=3, peak=peak, work=work)
    yield from _step_memory(model, work=work)
    yield _profile(model, work=work)
    model.start_extraction()
    pair = interleaved(model.capture, model.forward, repetitions=sizes.repetitions)
    yield _extraction(model, pair, work=work)
    yield _speed(model, "gpu_forward", pair.second.median, passes=1, peak=peak, work=work)


def _step_time(model: GpuModel, pair: Pair, *, method: Method, work: str) -> Row:
    return Row(
        name=f"gpu_training_time.{model.config.vocab_size}.{method}",
        work=f"{work}: forward, loss, backward, clip, AdamW",
        unit="s",
        measured=pair.first.median,
        compared=pair.second.median,
        compared_with=_WORDS[method],
        basis=SAME_RUN,
        ratio=pair.ratio,
        direction="at most",
        target_ratio=_MAX_RATIO,
        noise_margin=pair.noise_margin,
        details={"seconds": pair.first.seconds, "compared_seconds": pair.second.seconds},
    )


def _speed(model: GpuModel, name: str, seconds: float, *, passes: int, peak: float | None, work: str) -> Row:
    """Tokens per second; the MFU and what it is relative to stand in the details and in the work."""
    speed = model.num_batch_tokens / seconds
    flops = passes * forward_flops_per_token(model.config, num_tokens=model.sizes.num_tokens)
    mfu = None if peak is None else speed * flops / peak
    said = "no peak known: state --peak-tflops" if mfu is None else f"MFU {mfu:.1%} of {peak:.3g} FLOP/s"
    return Row(
        name=f"{name}.{model.config.vocab_size}",
        work=f"{work}; {said}",
        unit="tokens/s",
        measured=speed,
        details={"mfu": mfu, "peak_flops": peak, "flops_per_token": flops},
    )


def _step_memory(model: GpuModel, *, work: str) -> Iterator[Row]:
    methods: tuple[Method, ...] = ("fused", *_WORDS)
    peaks = {method: peak_memory_bytes(model.device, partial(model.step, method)) for method in methods}
    for method, words in _WORDS.items():
        yield Row(
            name=f"gpu_training_memory.{model.config.vocab_size}.{method}",
            work=f"{work}: most memory held, weights and moments included",
            unit="MB",
            measured=peaks["fused"] / 1e6,
            compared=peaks[method] / 1e6,
            compared_with=words,
            basis=SAME_RUN,
            ratio=peaks["fused"] / peaks[method],
            direction="at most",
            target_ratio=_MAX_RATIO,
            details={"bytes": peaks},
        )


def _profile(model: GpuModel, *, work: str) -> Row:
    share, longest = matrix_product_share(model.device, partial(model.step, "fused"))
    return Row(
        name=f"gpu_profile.{model.config.vocab_size}",
        work=f"{work}: share of the step in matrix products and attention",
        unit="share",
        measured=share,
        details={"seconds_of_longest": longest},
    )


def _extraction(model: GpuModel, pair: Pair, *, work: str) -> Row:
    return Row(
        name=f"gpu_extraction.{model.config.vocab_size}",
        work=f"{work}: run, keep the top 12 and 8 draws of the tail",
        unit="tokens/s",
        measured=model.num_batch_tokens / pair.first.median,
        compared=model.num_batch_tokens / pair.second.median,
        compared_with="bare forward pass, same batch",
        basis=SAME_RUN,
        ratio=1.0 / pair.ratio,
        direction="at least",
        target_ratio=_MIN_EXTRACTION_RATIO,
        noise_margin=pair.noise_margin,
        details={"seconds": pair.first.seconds, "forward_seconds": pair.second.seconds},
    )
