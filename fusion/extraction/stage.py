"""Stage `extract`: one model reads the training text; what it predicts is kept shard by shard.

Source: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491, section 3;
kept as normalised log-probabilities with the mass outside the top, which the published code drops.
"""

import resource
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fusion.errors import ModelUnusable
from fusion.extraction.batch_budget import (
    MAX_TOKENS,
    MemoryMeter,
    TokenBudget,
    probe_forward_cost,
    tokens_that_fit,
)
from fusion.extraction.capture_plan import CapturePlan, finished_meta, plan_capture
from fusion.extraction.capturing import PaddingCount, capture_shard
from fusion.extraction.logit_rows import LogitRows, default_rows_per_chunk
from fusion.extraction.shard_text import ShardText, encode_shard
from fusion.io.captures import Capture, shard_folder, write_capture
from fusion.io.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import read_windows, windows_path
from fusion.llms.device_memory import DeviceMemory
from fusion.llms.loading import compute_dtype, load_model
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

CAPTURES_KIND = "captures"
_PROBE_TOKENS = 8


@dataclass(kw_only=True, slots=True)
class Tally:
    """Sums over the shards, those of earlier attempts included, and the time of this one."""

    num_windows: int
    done_windows: int = 0
    num_tokens: int = 0
    num_new_tokens: int = 0
    padding: PaddingCount = field(default_factory=PaddingCount)
    started: float = field(default_factory=time.monotonic)


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Write one capture per training shard; shards that an earlier attempt finished are kept as they are.

    Raises:
        ModelUnusable: the model cannot be loaded, or none of its rows is finite.
        CapacityError: one window alone exceeds the device's memory.
    """
    plan = plan_capture(spec, inputs)
    if plan.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(plan.device)
    finished = {
        shard: meta for shard in plan.shards if (meta := finished_meta(plan, out_dir, shard)) is not None
    }
    tally = Tally(num_windows=_count_windows(plan))
    tally.done_windows = sum(meta["num_windows"] for meta in finished.values())
    tally.num_tokens = sum(meta["num_rows"] for meta in finished.values())
    missing = [shard for shard in plan.shards if shard not in finished]
    budget = TokenBudget(max_tokens=plan.max_tokens_per_batch or MAX_TOKENS[plan.device.type])
    if missing:
        finished |= _capture_shards(plan, missing, out_dir, tally=tally, budget=budget, progress=progress)
    metas = [finished[shard] for shard in plan.shards]
    _require_finite_rows(plan, metas, progress=progress)
    manifest = _write_root(plan, out_dir, metas)
    return StageReport(figures=_figures(plan, manifest=manifest, tally=tally, budget=budget))


def _count_windows(plan: CapturePlan) -> int:
    manifest = read_manifest(plan.prepared)
    return int(manifest.meta["splits"]["train"]["num_windows"])


def _capture_shards(
    plan: CapturePlan,
    shards: Iterable[int],
    out_dir: Path,
    *,
    tally: Tally,
    budget: TokenBudget,
    progress: Progress,
) -> dict[int, dict[str, Any]]:
    """Capture the shards; one is written while the next one is computed."""
    model = _load(plan)
    if plan.max_tokens_per_batch is None:
        fit_budget(budget, model, plan=plan, memory=DeviceMemory(plan.device))
    finished: dict[int, dict[str, Any]] = {}
    writing: Future[Path] | None = None
    with ThreadPoolExecutor(max_workers=1) as writer:
        for shard in shards:
            text = encode_shard(
                read_windows(windows_path(plan.prepared, "train", shard)),
                encoder=plan.encoder,
                start_id=plan.start_id,
            )
            capture = _capture(plan, text, model=model, tally=tally, budget=budget, progress=progress)
            if writing is not None:
                progress.part_finished(writing.result())
            finished[shard] = _meta(plan, shard, capture=capture, text=text)
            writing = writer.submit(_write, shard_folder(out_dir, shard), capture, finished[shard])
        if writing is not None:
            progress.part_finished(writing.result())
    return finished


def fit_budget(budget: TokenBudget, model: LogitRows, *, plan: CapturePlan, memory: MemoryMeter) -> None:
    """Lower the budget to what a probe says that the free memory holds."""
    cost = probe_forward_cost(model.run_backbone, meter=memory, device=plan.device, token_id=plan.start_id)
    budget.limit(
        tokens_that_fit(
            cost,
            longest=plan.max_tokens_per_window,
            free_bytes=memory.free_bytes(),
            reserved_bytes=model.chunk_bytes,
        )
    )


def _write(folder: Path, capture: Capture, meta: dict[str, Any]) -> Path:
    write_capture(folder, capture, meta=meta)
    return folder


def _load(plan: CapturePlan) -> LogitRows:
    model = load_model(plan.folder, dtype=plan.dtype, device=plan.device)
    return LogitRows(
        model,
        probe_ids=[plan.start_id] * _PROBE_TOKENS,
        rows_per_chunk=default_rows_per_chunk(
            model.config.vocab_size, device=plan.device, sampled=plan.settings.num_tail_samples > 0
        ),
    )


def _capture(
    plan: CapturePlan,
    text: ShardText,
    *,
    model: LogitRows,
    tally: Tally,
    budget: TokenBudget,
    progress: Progress,
) -> Capture:
    def on_batch(num_windows: int, num_rows: int) -> None:
        tally.done_windows += num_windows
        tally.num_tokens += num_rows
        tally.num_new_tokens += num_rows
        progress.update(tally.done_windows, tally.num_windows, unit="windows", tokens=tally.num_tokens)

    halvings = budget.num_halvings
    capture = capture_shard(
        text,
        model=model,
        device=plan.device,
        settings=plan.settings,
        budget=budget,
        padding=tally.padding,
        on_batch=on_batch,
    )
    if budget.num_halvings > halvings:
        progress.note(
            f"out of device memory: batches of at most {budget.max_tokens} tokens from now on",
            max_tokens_per_batch=budget.max_tokens,
        )
    tally.done_windows += text.num_lossy_windows
    return capture


def _meta(plan: CapturePlan, shard: int, *, capture: Capture, text: ShardText) -> dict[str, Any]:
    return {
        "model": plan.name,
        "digest": plan.digests[shard],
        "num_windows": capture.num_windows,
        "num_rows": capture.num_rows,
        "num_text_bytes": int(sum(capture.ends[capture.window_starts[1:][text.lengths > 0] - 1], start=0)),
        "num_quarantined_rows": int(capture.quarantined.sum()),
        "num_lossy_windows": text.num_lossy_windows,
    }


def _require_finite_rows(plan: CapturePlan, metas: list[dict[str, Any]], *, progress: Progress) -> None:
    num_rows = sum(meta["num_rows"] for meta in metas)
    num_quarantined = sum(meta["num_quarantined_rows"] for meta in metas)
    if num_rows and num_quarantined == num_rows:
        raise ModelUnusable(
            f"every one of the {num_rows} predictions of {plan.name!r} holds NaN or infinity",
            code="source_not_finite",
            hint="check the checkpoint's weights, or set the source's dtype to float32 or bfloat16",
            pointer=plan.pointer,
        )
    if num_quarantined:
        progress.note(
            f"{num_quarantined} of {num_rows} rows of {plan.name!r} were not finite and are left out",
            quarantined_rows=num_quarantined,
            rows=num_rows,
        )


def _write_root(plan: CapturePlan, out_dir: Path, metas: list[dict[str, Any]]) -> Manifest:
    folders = [shard_folder(out_dir, shard) for shard in plan.shards]
    files = [
        path.relative_to(out_dir).as_posix()
        for folder in folders
        for path in (folder / "capture.safetensors", folder / MANIFEST_NAME)
    ]
    sums = ("num_windows", "num_rows", "num_text_bytes", "num_quarantined_rows", "num_lossy_windows")
    meta = {name: sum(shard_meta[name] for shard_meta in metas) for name in sums}
    meta |= {"model": plan.name, "num_shards": len(plan.shards), **asdict(plan.settings)}
    return write_manifest(out_dir, kind=CAPTURES_KIND, meta=meta, files=files)


def _figures(plan: CapturePlan, *, manifest: Manifest, tally: Tally, budget: TokenBudget) -> dict[str, Any]:
    seconds = time.monotonic() - tally.started
    num_rows = manifest.meta["num_rows"]
    return {
        "tokens": num_rows,
        "seconds": seconds,
        "tokens_per_second": tally.num_new_tokens / seconds if seconds else 0.0,
        "reused_tokens": num_rows - tally.num_new_tokens,
        "quarantined_rows": manifest.meta["num_quarantined_rows"],
        "lossy_windows": manifest.meta["num_lossy_windows"],
        "bytes_per_token": manifest.num_bytes / num_rows if num_rows else 0.0,
        "padding_fraction": tally.padding.num_padding / max(1, tally.padding.num_positions),
        "max_tokens_per_batch": budget.max_tokens,
        "peak_memory_bytes": _peak_memory_bytes(plan.device),
        "device": str(plan.device),
        "dtype": str(compute_dtype(plan.dtype, plan.device)).removeprefix("torch."),
    }


def _peak_memory_bytes(device: torch.device) -> int:
    """Of the device, or of this process where the device is the CPU (Linux counts in KiB)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
