"""Checkpoints of a training run: committed by us, never half there, no pickle.

A checkpoint is a folder `step-00000200/` with the fp32 weights and the optimiser's moments as safetensors and
the rest as JSON; its manifest is written last and the folder renamed into place. The order of sequences, the
learning rate and the random numbers are functions of (seed, step), so the step is all there is to remember.

The weights lie in `model/` beside config and tokenizer, a folder that transformers loads: whoever wants the
model as it was at that step needs these files and no conversion.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fusion.errors import InfrastructureError
from fusion.failpoints import failpoint
from fusion.io.atomic import atomic_folder, read_json, write_json
from fusion.io.manifest import read_manifest, verify_manifest, write_manifest
from fusion.llms.loading import load_model
from fusion.training.optimiser import optimiser_tensors, restore_optimiser
from fusion.training.output import save_as_it_is

CHECKPOINT_KIND = "checkpoint_with_model"
_EARLIER_KIND = "checkpoint"
"""With the weights beside the state. Releases that know no other pass over what is of the new kind."""
STATE_NAME = "state.json"
MODEL_FOLDER = "model"
_MAX_FILE_BYTES = 4_000_000_000


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a run stands, besides weights and moments; all of it JSON.

    step: optimiser steps done. num_tokens: predicted tokens counted so far. max_tokens_per_micro_batch: as
    it is after any halving. pending: sums since the last record.
    student_S, rival_S: see `Following`. curve: one record per `log_every_steps`.
    """

    step: int = 0
    num_tokens: int = 0
    max_tokens_per_micro_batch: int = 0
    pending: dict[str, float] = field(default_factory=dict)
    student_S: list[float] = field(default_factory=list)
    rival_S: list[float] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


def config_digest(**facts: Any) -> str:
    """sha256 over the JSON of everything that decides the weights."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save_checkpoint(
    folder: Path,
    *,
    state: TrainState,
    model: Any,
    optimiser: torch.optim.Optimizer,
    digest: str,
    target: Path,
) -> Path:
    """Commit a checkpoint below `folder` and return its folder.

    Args:
        target: checkpoint folder the training started from; tokenizer and generation config are its.
    """
    path = folder / f"step-{state.step:08d}"
    with atomic_folder(path) as partial:
        save_as_it_is(model, partial / MODEL_FOLDER, target=target, max_shard_bytes=_MAX_FILE_BYTES)
        failpoint("checkpoint.file_written")
        for index, part in enumerate(_parts(optimiser_tensors(model, optimiser))):
            _save_tensors(partial / f"optimiser-{index:05d}.safetensors", part)
        write_json(partial / STATE_NAME, asdict(state))
        metrics = (
            {name: value for name, value in state.curve[-1].items() if name != "step"} if state.curve else {}
        )
        meta = {
            "step": state.step,
            "config_digest": digest,
            "num_tokens": state.num_tokens,
            "metrics": metrics,
        }
        write_manifest(partial, kind=CHECKPOINT_KIND, meta=meta)
    return path


def newest_checkpoint(folder: Path, *, digest: str, on_unusable: Callable[[str, str], None]) -> Path | None:
    """The latest checkpoint that is whole and belongs to this run.

    Args:
        on_unusable: told the name of each later one that was passed over, and why.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        if not path.name.removeprefix("step-").isdecimal():
            continue
        try:
            manifest = verify_manifest(path)
        except InfrastructureError as error:
            on_unusable(path.name, error.message)
            continue
        is_checkpoint = manifest.kind in (CHECKPOINT_KIND, _EARLIER_KIND)
        if is_checkpoint and manifest.meta.get("config_digest") == digest:
            return path
        on_unusable(path.name, "it belongs to a run with other settings")
    return None


def load_checkpoint(path: Path, *, model: Any, optimiser: torch.optim.Optimizer) -> TrainState:
    """Put weights and moments back in place and return the state."""
    saved = _saved_weights(path)
    with torch.no_grad():
        for name, tensor in _weights(model).items():
            tensor.copy_(saved[name])
    restore_optimiser(model, optimiser, _load_tensors(path, "optimiser"))
    return TrainState(**read_json(path / STATE_NAME))


def older_checkpoints(folder: Path, *, keep_last: int) -> list[Path]:
    """All but the last `keep_last` complete checkpoints, oldest first."""
    paths = sorted(path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())
    return paths[:-keep_last]


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, tied ones once, and the buffers that belong to the checkpoint."""
    saved_names = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved_names}
    return dict(model.named_parameters()) | buffers


def _saved_weights(path: Path) -> dict[str, Tensor]:
    """By the names that the model's own modules have: in files transformers may give them others."""
    if read_manifest(path).kind == _EARLIER_KIND:
        return _load_tensors(path, "model")
    return _weights(load_model(path / MODEL_FOLDER, dtype="float32", device=torch.device("cpu")))


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt"})
    failpoint("checkpoint.file_written")


def _load_tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{stem}*.safetensors")):
        tensors |= load_file(path)
    return tensors


def _parts(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Tensors of one file each, of limited size, so that the host never holds a copy of everything."""
    part: dict[str, Tensor] = {}
    num_bytes = 0
    for name, tensor in tensors.items():
        if part and num_bytes + tensor.nbytes > _MAX_FILE_BYTES:
            yield part
            part, num_bytes = {}, 0
        part[name] = tensor
        num_bytes += tensor.nbytes
    if part:
        yield part
