"""Stage `extract`: one model reads the training text; what it predicts is kept shard by shard.

Source: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491, section 3;
kept as normalised log-probabilities with the mass outside the top, which the published code drops.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion.errors import ModelUnusable
from fusion.extraction.batch_budget import MAX_TOKENS, TokenBudget
from fusion.extraction.capture_plan import CapturePlan, finished_meta, plan_capture
from fusion.extraction.model_run import ModelRun, Tally
from fusion.extraction.window_store import WindowStore
from fusion.io.capture_cache import window_key
from fusion.io.captures import Capture, join_captures, shard_folder, window_of, write_capture
from fusion.io.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import Window, read_windows, windows_path
from fusion.llms.device_memory import peak_memory_bytes
from fusion.llms.loading import compute_dtype
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

CAPTURES_KIND = "captures"


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Write one capture per training shard; shards that an earlier attempt finished are kept as they are, and
    windows that the capture cache holds are taken from there.

    Raises:
        ModelUnusable: the model cannot be loaded or was changed, or none of its rows is finite.
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
    tally.num_tokens = tally.num_reused_tokens = sum(meta["num_rows"] for meta in finished.values())
    missing = [shard for shard in plan.shards if shard not in finished]
    budget = TokenBudget(
        max_tokens=inputs.within_memory(plan.max_tokens_per_batch or MAX_TOKENS[plan.device.type])
    )
    if missing:
        store = WindowStore(inputs.capture_cache, space=plan.space, facts=plan.facts, progress=progress)
        for shard in finished:
            store.adopt_shard(out_dir, shard, keys=_keys(plan, _read_windows(plan, shard)))
        finished |= _capture_shards(
            plan, missing, out_dir, store=store, tally=tally, budget=budget, progress=progress
        )
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
    store: WindowStore,
    tally: Tally,
    budget: TokenBudget,
    progress: Progress,
) -> dict[int, dict[str, Any]]:
    """Capture the shards; one is written while the next one is computed."""
    model = ModelRun(plan, tally=tally, budget=budget, progress=progress)
    finished: dict[int, dict[str, Any]] = {}
    writing: Future[Path] | None = None
    with ThreadPoolExecutor(max_workers=1) as writer:
        for shard in shards:
            windows = _read_windows(plan, shard)
            capture, fresh = _assemble(plan, windows, store=store, model=model)
            if writing is not None:
                progress.part_finished(writing.result())
            store.announce(fresh)
            finished[shard] = _meta(plan, shard, capture=capture)
            writing = writer.submit(
                _write, shard_folder(out_dir, shard), capture, finished[shard], fresh=fresh, store=store
            )
        if writing is not None:
            progress.part_finished(writing.result())
    return finished


def _assemble(
    plan: CapturePlan, windows: list[Window], *, store: WindowStore, model: ModelRun
) -> tuple[Capture, dict[bytes, Capture]]:
    """The capture of a shard, and by key those of its windows that the model was run over."""
    keys = _keys(plan, windows)
    found = store.find(keys)
    missing = {key: window for key, window in zip(keys, windows, strict=True) if key not in found}
    fresh: dict[bytes, Capture] = {}
    if missing:
        captured = model.capture(list(missing.values()))
        fresh = {key: window_of(captured, number) for number, key in enumerate(missing)}
        if len(fresh) == len(windows):
            return captured, fresh
    capture = join_captures([found[key] if key in found else fresh[key] for key in keys])
    num_fresh_rows = sum(window.num_rows for window in fresh.values())
    model.skip(num_windows=len(windows) - len(fresh), num_rows=capture.num_rows - num_fresh_rows)
    return capture, fresh


def _write(
    folder: Path, capture: Capture, meta: dict[str, Any], *, fresh: dict[bytes, Capture], store: WindowStore
) -> Path:
    write_capture(folder, capture, meta=meta)
    store.write(fresh)
    return folder


def _read_windows(plan: CapturePlan, shard: int) -> list[Window]:
    return read_windows(windows_path(plan.prepared, "train", shard))


def _keys(plan: CapturePlan, windows: Iterable[Window]) -> list[bytes]:
    return [window_key(plan.space, window) for window in windows]


def _meta(plan: CapturePlan, shard: int, *, capture: Capture) -> dict[str, Any]:
    is_lossy = np.diff(capture.window_starts) == 0
    return {
        "model": plan.name,
        "digest": plan.digests[shard],
        "num_windows": capture.num_windows,
        "num_rows": capture.num_rows,
        "num_text_bytes": int(capture.ends[capture.window_starts[1:][~is_lossy] - 1].sum(dtype=np.int64)),
        "num_quarantined_rows": int(capture.quarantined.sum()),
        "num_lossy_windows": int(is_lossy.sum()),
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
        "reused_tokens": tally.num_reused_tokens,
        "cached_tokens": tally.num_cached_tokens,
        "quarantined_rows": manifest.meta["num_quarantined_rows"],
        "lossy_windows": manifest.meta["num_lossy_windows"],
        "bytes_per_token": manifest.num_bytes / num_rows if num_rows else 0.0,
        "padding_fraction": tally.padding.num_padding / max(1, tally.padding.num_positions),
        "max_tokens_per_batch": budget.max_tokens,
        "peak_memory_bytes": peak_memory_bytes(plan.device),
        "device": str(plan.device),
        "dtype": str(compute_dtype(plan.dtype, plan.device)).removeprefix("torch."),
    }
