"""Rows about `extract`: reading, running, keeping and writing, against a bare forward pass."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import reference
from benchmarks.measuring import Pair, interleaved
from benchmarks.rows import FIXED, REFERENCE_FIGURE, SAME_RUN, Row
from benchmarks.workbench import Model, Workbench
from fusion.extraction.capturing import PaddingCount
from fusion.extraction.logit_rows import Keep
from fusion.io.captures import read_capture, shard_folder, write_capture
from fusion.io.manifest import read_manifest
from fusion.io.windows import Window

_MAX_BYTES_PER_TOKEN = 80.0


def rows(bench: Workbench) -> Iterator[Row]:
    """Speed with a sentencepiece and with a byte-level vocabulary; padding and disk of the first."""
    for name in ("target", "mpt"):
        model = bench.model(name)
        yield from _speed(bench, model)
        if name == "target":
            yield _padding(bench, model)
            yield _disk(bench, model)
    for hidden_size, num_layers, vocabulary_size in bench.sizes.extraction_shapes:
        yield _shape(bench, hidden_size, num_layers, vocabulary_size)


class _BatchRecorder:
    """Takes the place of a model's rows, runs nothing, and remembers what would have been run."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def visit(self, input_ids_BT: Tensor, *, is_real_BT: Tensor, keep: Keep) -> None:
        self.batches.append(input_ids_BT)


def _speed(bench: Workbench, model: Model) -> Iterator[Row]:
    size = model.num_valid_ids
    pair, details = _time(bench, model, bench.windows[:: bench.sizes.extraction_window_stride])
    yield _against_forward(pair, name=f"extraction.{size}", size=size, details=details)
    yield _against_reference(pair, size=size, num_tokens=details["tokens"])


def _shape(bench: Workbench, hidden_size: int, num_layers: int, vocabulary_size: int) -> Row:
    """Fewer windows: the larger the model, the longer each takes."""
    model = bench.random_model(
        hidden_size=hidden_size, num_layers=num_layers, vocabulary_size=vocabulary_size
    )
    pair, details = _time(bench, model, bench.windows[:: 3 * bench.sizes.extraction_window_stride])
    name = f"extraction.{hidden_size}x{num_layers}.{vocabulary_size}"
    return _against_forward(pair, name=name, size=vocabulary_size, details=details)


def _time(bench: Workbench, model: Model, windows: list[Window]) -> tuple[Pair, dict[str, Any]]:
    """Extraction against a bare forward pass, and the facts of the work."""
    recorder = _BatchRecorder()
    bench.capture(model, windows, logit_rows=recorder)
    pair = interleaved(
        lambda: _extract(bench, model, windows),
        lambda: _forward(model, recorder.batches),
        repetitions=bench.sizes.repetitions,
    )
    num_tokens = bench.text(model.name, windows).num_rows
    return pair, {"tokens": num_tokens, "batches": [list(ids.shape) for ids in recorder.batches]}


def _extract(bench: Workbench, model: Model, windows: list[Window]) -> Path:
    """What the stage does for one shard: tokenise, run, keep, write."""
    folder = shard_folder(bench.scratch / "extraction", 0)
    write_capture(folder, bench.capture(model, windows), meta={})
    return folder


@torch.inference_mode()
def _forward(model: Model, batches: list[Tensor]) -> None:
    """Padding is on the right, so neither side needs a mask."""
    for input_ids_BT in batches:
        model.network(input_ids_BT, use_cache=False)


def _against_forward(pair: Pair, *, name: str, size: int, details: dict[str, Any]) -> Row:
    num_tokens = details["tokens"]
    return Row(
        name=name,
        work=f"{num_tokens:,} tokens, {size:,} pieces: tokenise, run, keep the top 12 and 8 draws, write",
        unit="tokens/s",
        measured=num_tokens / pair.first.median,
        compared=num_tokens / pair.second.median,
        compared_with="bare forward pass, same batches",
        basis=SAME_RUN,
        ratio=1.0 / pair.ratio,
        direction="at least",
        target_ratio=0.85,
        noise_margin=pair.noise_margin,
        details=details | {"seconds": pair.first.seconds, "forward_seconds": pair.second.seconds},
    )


def _against_reference(pair: Pair, *, size: int, num_tokens: int) -> Row:
    speed = num_tokens / pair.first.median / torch.get_num_threads()
    reference_speed = reference.NUM_TARGET_TOKENS / reference.EXTRACTION_SECONDS / reference.NUM_CORES
    return Row(
        name=f"extraction.{size}.reference",
        work=f"{num_tokens:,} tokens, {size:,} pieces, windows of up to 2048",
        unit="tokens/s/core",
        measured=speed,
        compared=reference_speed,
        compared_with="the reference's fastest source",
        basis=REFERENCE_FIGURE,
        ratio=speed / reference_speed,
        direction="at least",
        target_ratio=3.0,
        noise_margin=pair.first.noise_margin,
        details={"cores": torch.get_num_threads()},
    )


def _padding(bench: Workbench, model: Model) -> Row:
    padding = PaddingCount()
    bench.capture(model, bench.windows, logit_rows=_BatchRecorder(), padding=padding)
    return Row(
        name="extraction.padding",
        work=f"{padding.num_positions:,} positions of {len(bench.windows)} windows",
        unit="share",
        measured=padding.num_padding / padding.num_positions,
        compared=reference.padding_fraction(),
        compared_with="the reference, every row padded to 2048",
        details={"positions": padding.num_positions, "padding": padding.num_padding},
    )


def _disk(bench: Workbench, model: Model) -> Row:
    folder = _extract(bench, model, bench.windows[:: bench.sizes.extraction_window_stride])
    num_rows = read_capture(folder).num_rows
    num_bytes = read_manifest(folder).num_bytes
    return Row(
        name="extraction.disk",
        work=f"capture of {num_rows:,} tokens, 12 entries and 8 draws kept",
        unit="B/token",
        measured=num_bytes / num_rows,
        compared=_MAX_BYTES_PER_TOKEN,
        compared_with=f"limit (the reference: {reference.CAPTURE_BYTES_PER_TOKEN:g})",
        basis=FIXED,
        ratio=num_bytes / num_rows / _MAX_BYTES_PER_TOKEN,
        direction="at most",
        target_ratio=1.0,
        details={"bytes": num_bytes},
    )
