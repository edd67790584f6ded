"""What one `extract` step has to do, and which of it an earlier attempt has done.

A capture is a function of the model, the text, the precision and what is kept; the digest of these is
stored with each shard, so that a finished shard is taken over only where all of them are the same.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.errors import InfrastructureError, InternalError
from fusion.extraction.capturing import CaptureSettings
from fusion.io.atomic import read_json
from fusion.io.capture_cache import space_digest
from fusion.io.captures import CAPTURE_KIND, shard_folder
from fusion.io.manifest import file_sha256, read_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import list_shards, windows_path
from fusion.llms.checkpoints import resolve_checkpoint
from fusion.llms.loading import compute_dtype, load_tokenizer, pick_device
from fusion.llms.token_bytes import TextEncoder
from fusion.spec import Dtype, FusionSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CapturePlan:
    """One model and the shards it reads.

    digests: per shard, of all that its capture is a function of.
    model_digest: of the checkpoint that `prepare` saw.
    space: digest of all but the text that a window's capture is a function of.
    """

    name: str
    pointer: str
    folder: Path
    dtype: Dtype
    device: torch.device
    encoder: TextEncoder
    start_id: int
    settings: CaptureSettings
    max_tokens_per_batch: int | None
    max_tokens_per_window: int
    num_batch_halvings: int
    prepared: Path
    shards: list[int]
    digests: dict[int, str]
    model_digest: str
    space: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the cache tells people of these captures."""
        return {"model": self.folder.name, "model_digest": self.model_digest, **asdict(self.settings)}


def plan_capture(spec: FusionSpec, inputs: StageInputs) -> CapturePlan:
    """What `inputs.subject` has to read, and how."""
    name = inputs.subject
    if name not in spec.captured_names:
        raise InternalError(
            f"extract was asked for {name!r}, which the spec does not capture", code="internal"
        )
    prepared = inputs.steps["prepare"]
    model = read_json(prepared / "models.json")[name]
    folder = resolve_checkpoint(spec.model_ref(name), inputs)
    encoder = TextEncoder(load_tokenizer(folder))
    if encoder.start_id is None:
        raise InternalError(f"{name!r} has no start token although prepare accepted it", code="internal")
    device = pick_device()
    settings = _settings(spec, num_valid_ids=min(encoder.size, model["vocabulary_size"]))
    dtype: Dtype = next((source.dtype for source in spec.sources if source.name == name), "auto")
    shards = list_shards(prepared, "train")
    precision = str(compute_dtype(dtype, device))
    return CapturePlan(
        name=name,
        pointer=next(pointer for other, pointer, _ in spec.model_refs() if other == name),
        folder=folder,
        dtype=dtype,
        device=device,
        encoder=encoder,
        start_id=encoder.start_id,
        settings=settings,
        max_tokens_per_batch=spec.strategy.extraction.max_tokens_per_batch,
        max_tokens_per_window=min(
            spec.corpus.max_tokens_per_window, model["max_positions"] or spec.corpus.max_tokens_per_window
        ),
        num_batch_halvings=inputs.num_batch_halvings,
        prepared=prepared,
        shards=shards,
        digests={
            shard: _digest(model["digest"], _shard_sha256(prepared, shard), precision, asdict(settings))
            for shard in shards
        },
        model_digest=model["digest"],
        space=_space(model["digest"], precision=precision, settings=settings),
    )


def _settings(spec: FusionSpec, *, num_valid_ids: int) -> CaptureSettings:
    kept = spec.strategy.extraction
    return CaptureSettings(
        num_valid_ids=num_valid_ids,
        top_k=kept.top_k,
        num_tail_samples=spec.strategy.num_tail_samples,
        seed=spec.seed,
    )


def _space(model_digest: str, *, precision: str, settings: CaptureSettings) -> str:
    """The seed counts only where something is drawn."""
    facts = asdict(settings) | {"seed": settings.seed if settings.num_tail_samples else None}
    return space_digest(model=model_digest, precision=precision, **facts)


def _shard_sha256(prepared: Path, shard: int) -> str:
    return file_sha256(windows_path(prepared, "train", shard))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def finished_meta(plan: CapturePlan, out_dir: Path, shard: int) -> dict[str, Any] | None:
    """Facts of a shard that an earlier attempt finished from the same inputs."""
    try:
        meta = read_manifest(shard_folder(out_dir, shard), kind=CAPTURE_KIND).meta
    except InfrastructureError:
        # Unfinished or torn: it is captured again.
        return None
    return meta if meta["digest"] == plan.digests[shard] else None
