"""The safetensors files of a checkpoint, judged by its index and their headers; no weight is read."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fusion.errors import ModelUnusable

WEIGHTS_NAME = "model.safetensors"
WEIGHTS_INDEX_NAME = "model.safetensors.index.json"
_PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWeights:
    """What the headers say. Tied tensors are stored once."""

    num_tensors: int
    num_parameters: int
    num_bytes: int


def weight_files(folder: Path, *, pointer: str) -> list[Path]:
    """The files with the weights, all of them in `folder`: those that transformers would take.

    Raises:
        ModelUnusable: with codes pickled_weights_only, weights_missing, model_config_broken.
    """
    index, names = folder / WEIGHTS_INDEX_NAME, [WEIGHTS_NAME]
    if index.is_file() and not (folder / WEIGHTS_NAME).is_file():
        names = _names_in_index(index, pointer=pointer)
    absent = [name for name in names if not (folder / name).is_file()]
    if names and not absent:
        return [folder / name for name in names]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED_SUFFIXES)
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelUnusable(
            f"{folder} holds pickled weights only ({pickled[0]}); loading a pickle can run any code",
            code="pickled_weights_only",
            hint="convert it to safetensors: model.save_pretrained(folder) in a place you trust",
            pointer=pointer,
        )
    raise ModelUnusable(
        f"{folder} lacks {', '.join(absent) or 'the files that its weight index names'}",
        code="weights_missing",
        hint=f"provide {WEIGHTS_NAME}, or {WEIGHTS_INDEX_NAME} with its shards; pickles are not read",
        pointer=pointer,
    )


def count_weights(paths: list[Path], *, pointer: str) -> StoredWeights:
    """Count by the headers.

    Raises:
        ModelUnusable: weights_damaged; a truncated file shows here.
    """
    num_tensors = num_parameters = 0
    for path in paths:
        try:
            with safe_open(path, framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelUnusable(
                f"{path} is not a complete safetensors file: {error}",
                code="weights_damaged",
                hint="copy or download the checkpoint again",
                pointer=pointer,
            ) from error
        num_tensors += len(shapes)
        num_parameters += sum(math.prod(shape) for shape in shapes)
    return StoredWeights(
        num_tensors=num_tensors,
        num_parameters=num_parameters,
        num_bytes=sum(path.stat().st_size for path in paths),
    )


def _names_in_index(index: Path, *, pointer: str) -> list[str]:
    """Names that the index gives. transformers follows them wherever they lead, so they may lead nowhere."""
    try:
        data: Any = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(data["weight_map"].values()))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise _broken(index, "is no index of weights", pointer=pointer) from error
    for name in names:
        if not isinstance(name, str) or "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise _broken(index, f"names {name!r}, which is no safetensors file beside it", pointer=pointer)
    return names


def _broken(index: Path, what: str, *, pointer: str) -> ModelUnusable:
    return ModelUnusable(
        f"{index} {what}",
        code="model_config_broken",
        hint="copy the checkpoint again, with every shard in the same folder",
        pointer=pointer,
    )
