"""The trained model as a checkpoint folder that transformers loads."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from fusion.spec import OutputSpec

_COPIED_NAMES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_DTYPE_OF_HEADER = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_DTYPE_OF_NAME = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def save_model(model: Any, folder: Path, *, target: Path, output: OutputSpec) -> torch.dtype:
    """Write the trained model in the precision of the spec.

    The model is cast in place, so it is of no use for training afterwards.

    Args:
        target: checkpoint folder the training started from.

    Returns:
        The precision that was stored.
    """
    dtype = stored_dtype(target) if output.dtype == "auto" else _DTYPE_OF_NAME[output.dtype]
    save_as_it_is(model.to(dtype), folder, target=target, max_shard_bytes=output.max_shard_bytes)
    return dtype


def save_as_it_is(model: Any, folder: Path, *, target: Path, max_shard_bytes: int) -> None:
    """Write weights and config of a model, and the target's own tokenizer and generation config."""
    # Its own class is what was trained; code the target once named must not be asked for.
    model.config.__dict__.pop("auto_map", None)
    shutil.rmtree(folder, ignore_errors=True)
    if (target / "generation_config.json").is_file():
        # transformers refuses to save what some published models ship; theirs is copied as it is.
        model.generation_config = GenerationConfig()
    model.save_pretrained(folder, max_shard_size=max_shard_bytes)
    for name in _COPIED_NAMES:
        if (target / name).is_file():
            shutil.copyfile(target / name, folder / name)


def stored_dtype(checkpoint: Path) -> torch.dtype:
    """The precision that most parameters of a checkpoint are stored in, by the headers of its files."""
    num_parameters: Counter[torch.dtype] = Counter()
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                stored = tensors.get_slice(name)
                dtype = _DTYPE_OF_HEADER.get(stored.get_dtype(), torch.bfloat16)
                num_parameters[dtype] += torch.Size(stored.get_shape()).numel()
    return num_parameters.most_common(1)[0][0]
