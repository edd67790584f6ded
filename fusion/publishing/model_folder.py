"""The published folder: a copy of the trained model, checked tensor by tensor."""

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from fusion.errors import InfrastructureError, TrainingDiverged
from fusion.io.atomic import sync_file
from fusion.io.manifest import read_manifest

_MODEL_PREFIX = "model/"


def copy_model(trained: Path, out_dir: Path) -> list[str]:
    """Copy the model files that the manifest of `train` lists; returns their names in `out_dir`.

    Real copies: a user who edits the published folder must not change the step's output.

    Raises:
        InfrastructureError: the trained model is unfinished or damaged.
    """
    names = [
        file.path.removeprefix(_MODEL_PREFIX)
        for file in read_manifest(trained, kind="trained").files
        if file.path.startswith(_MODEL_PREFIX)
    ]
    for name in names:
        destination = out_dir / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trained / _MODEL_PREFIX / name, destination)
        sync_file(destination)
    return names


def require_finite_weights(folder: Path) -> int:
    """Read every published tensor back; returns the number of parameters.

    Raises:
        TrainingDiverged: a parameter is NaN or infinite.
        InfrastructureError: a file is not readable, or there is none.
    """
    num_parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            num_parameters += _check_file(path)
        except (SafetensorError, OSError) as error:
            raise InfrastructureError(
                f"{path.name} cannot be read back: {error}", code="published_weights_damaged"
            ) from error
    if not num_parameters:
        raise InfrastructureError("the trained model holds no weights", code="published_weights_missing")
    return num_parameters


def _check_file(path: Path) -> int:
    num_parameters = 0
    with safe_open(path, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  not a mapping
            tensor = tensors.get_tensor(name)
            num_parameters += tensor.numel()
            if not torch.isfinite(tensor).all():
                raise TrainingDiverged(
                    f"{name} of the fused model holds values that are not finite",
                    code="weights_not_finite",
                    hint="lower training.learning_rate, or store output.dtype 'bfloat16' or 'float32'",
                    pointer="/output/dtype",
                )
    return num_parameters
