"""Finding checkpoints and judging them from their JSON and headers alone, before any weight is read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fusion.errors import InternalError, ModelUnusable
from fusion.io.manifest import Manifest, ManifestFile, file_sha256
from fusion.io.stage_inputs import StageInputs
from fusion.llms.hub import download_checkpoint
from fusion.llms.weight_files import StoredWeights, count_weights, weight_files
from fusion.spec import ModelRef

TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
_SPECIAL_TOKEN_NAMES = ("tokenizer_config.json", "special_tokens_map.json")
_CAUSAL_LM_SUFFIXES = ("ForCausalLM", "LMHeadModel")
_CODE_KEYS = ("auto_map", "trust_remote_code", "custom_generate")
_POSITION_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_ADAPTER_CONFIG_NAME = "adapter_config.json"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointInfo:
    """What a checkpoint's config and weight headers say.

    vocabulary_size: rows of the output head, which may exceed the tokenizer.
    max_positions: longest input in tokens; None where the architecture sets no limit.
    num_parameters, num_weight_bytes: of the stored tensors; tied ones are stored once.
    dtype: stored precision, e.g. `bfloat16`, where the config names it.
    """

    model_type: str
    architecture: str
    vocabulary_size: int
    max_positions: int | None
    num_parameters: int
    num_weight_bytes: int
    dtype: str | None
    license: str | None


def resolve_checkpoint(ref: ModelRef, inputs: StageInputs) -> Path:
    """The local folder of a checkpoint; a hub repository is downloaded once per machine.

    Raises:
        ModelUnusable: it does not exist, or access is not granted.
        InfrastructureError: the hub cannot be reached.
    """
    if ref.path is not None:
        return Path(ref.path).expanduser()
    if ref.model_id is not None:
        if ref.model_id not in inputs.models:
            raise InternalError(f"model {ref.model_id} was not fetched for this step", code="input_missing")
        return inputs.models[ref.model_id]
    if ref.hub is None or ref.revision is None:
        raise InternalError(f"{ref!r} names no checkpoint", code="internal")
    if ref.secret is None:
        return download_checkpoint(ref.hub, revision=ref.revision)
    if ref.secret not in inputs.secrets or inputs.private_hub_cache is None:
        raise InternalError(f"secret {ref.secret} was not given to this step", code="input_missing")
    return download_checkpoint(
        ref.hub,
        revision=ref.revision,
        token=inputs.secrets[ref.secret],
        cache=inputs.private_hub_cache,
    )


def inspect_checkpoint(folder: Path, *, pointer: str) -> CheckpointInfo:
    """Judge a checkpoint without loading it.

    Args:
        pointer: JSON pointer of the spec field that names it.

    Raises:
        ModelUnusable: with codes model_not_found, model_config_broken, remote_code_required,
            model_is_adapter, not_a_causal_lm, pickled_weights_only, weights_missing, weights_damaged,
            tokenizer_missing.
    """
    if not folder.is_dir():
        raise ModelUnusable(
            f"no checkpoint at {folder}", code="model_not_found", hint="check the path", pointer=pointer
        )
    config = _read_config(folder, pointer=pointer)
    _refuse_remote_code(folder, config=config, pointer=pointer)
    _refuse_other_weights(folder, config=config, pointer=pointer)
    architecture = _causal_lm_architecture(config, folder=folder, pointer=pointer)
    weights = count_weights(weight_files(folder, pointer=pointer), pointer=pointer)
    _require_layers(config, weights, folder=folder, pointer=pointer)
    _require_tokenizer(folder, pointer=pointer)
    positions = next((config[key] for key in _POSITION_KEYS if isinstance(config.get(key), int)), None)
    return CheckpointInfo(
        model_type=config["model_type"],
        architecture=architecture,
        vocabulary_size=_vocabulary_size(config, folder=folder, pointer=pointer),
        max_positions=positions,
        num_parameters=weights.num_parameters,
        num_weight_bytes=weights.num_bytes,
        dtype=config.get("dtype") or config.get("torch_dtype"),
        license=_license(folder),
    )


def checkpoint_digest(folder: Path) -> str:
    """sha256 over config, weights and tokenizer files: equal for checkpoints that compute the same."""
    names = ("config.json", *TOKENIZER_NAMES, *_SPECIAL_TOKEN_NAMES)
    paths = sorted(
        [*folder.glob("*.safetensors"), *(folder / name for name in names if (folder / name).is_file())]
    )
    files = (
        ManifestFile(path=path.name, size=path.stat().st_size, sha256=file_sha256(path)) for path in paths
    )
    return Manifest(kind="checkpoint", files=tuple(files), meta={}).digest


def _read_config(folder: Path, *, pointer: str) -> Json:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelUnusable(
            f"{folder} holds no config.json",
            code="model_not_found",
            hint="give the folder that save_pretrained wrote",
            pointer=pointer,
        )
    return _read_json(path, pointer=pointer)


def _read_json(path: Path, *, pointer: str) -> Json:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelUnusable(
            f"{path} is not JSON: {error}",
            code="model_config_broken",
            hint="copy the checkpoint again",
            pointer=pointer,
        ) from error
    if not isinstance(data, dict):
        raise ModelUnusable(
            f"{path} holds {type(data).__name__}, expected an object",
            code="model_config_broken",
            hint="copy the checkpoint again",
            pointer=pointer,
        )
    return data


def _refuse_remote_code(folder: Path, *, config: Json, pointer: str) -> None:
    """Refuse checkpoints that make transformers fetch or run code of their author.

    Many hub repositories carry an `auto_map` from before transformers had their architecture. Where it has it
    now, its own class is loaded and the map is never followed, so the map alone is no reason to refuse.
    """
    is_native = _native_architecture(config) is not None
    for name in ("config.json", "generation_config.json", *_SPECIAL_TOKEN_NAMES):
        path = folder / name
        if not path.is_file():
            continue
        settings = _read_json(path, pointer=pointer)
        if is_native:
            settings = {key: value for key, value in settings.items() if key != "auto_map"}
        for key in _code_keys(settings):
            raise ModelUnusable(
                f"{path} asks for code that is not part of transformers (key {key!r})",
                code="remote_code_required",
                hint="choose a model whose architecture transformers has; if it has this one, "
                f"provide a copy of the checkpoint without {key!r}",
                pointer=pointer,
            )


def _refuse_other_weights(folder: Path, *, config: Json, pointer: str) -> None:
    """Refuse checkpoints that make transformers load other weights than those that are looked at here."""
    if config.get("transformers_weights"):
        raise ModelUnusable(
            f"{folder / 'config.json'} names its weights by 'transformers_weights', which is not read",
            code="model_config_broken",
            hint="remove the key and give the weights the name that save_pretrained gives them",
            pointer=pointer,
        )
    # Where PEFT is installed, what an adapter names would be loaded, wherever that lies.
    if (folder / _ADAPTER_CONFIG_NAME).is_file():
        raise ModelUnusable(
            f"{folder} holds an adapter ({_ADAPTER_CONFIG_NAME}), not a model of its own",
            code="model_is_adapter",
            hint="merge the adapter into its model (PEFT's merge_and_unload), save that, and name it instead",
            pointer=pointer,
        )


def _code_keys(value: Any) -> Iterator[str]:
    """Keys at any depth that make transformers fetch or run code of the checkpoint's author."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner and (key in _CODE_KEYS or key.endswith("_internal") or _names_kernel(key, inner)):
                yield key
            yield from _code_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _code_keys(inner)


def _names_kernel(key: str, value: Any) -> bool:
    """A kernel is fetched from a repository, `org/name`."""
    return key.endswith("attn_implementation") and "/" in str(value)


def _native_architecture(config: Json) -> str | None:
    """The class that transformers itself has for a config, if it has one."""
    model_type = config.get("model_type")
    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type) if isinstance(model_type, str) else None


def _causal_lm_architecture(config: Json, *, folder: Path, pointer: str) -> str:
    model_type, known = config.get("model_type"), _native_architecture(config)
    named = config.get("architectures") or [known]
    architecture = named[0] if isinstance(named, list) else named
    is_name = isinstance(architecture, str) and architecture.isidentifier()
    if known is not None and is_name and architecture.endswith(_CAUSAL_LM_SUFFIXES):
        return str(architecture)
    raise ModelUnusable(
        f"{folder} is not a causal language model that transformers has: model_type {model_type!r}, "
        f"architecture {architecture!r}",
        code="not_a_causal_lm",
        hint="choose a checkpoint whose architecture ends in ForCausalLM (Llama, Qwen, ...)",
        pointer=pointer,
    )


def _require_layers(config: Json, weights: StoredWeights, *, folder: Path, pointer: str) -> None:
    """Every layer has weights. A million of them would take hours and gigabytes to find missing."""
    told = (config[key] for key in _LAYER_KEYS if isinstance(config.get(key), int))
    num_layers = next(told, 0)
    if num_layers > weights.num_tensors:
        raise ModelUnusable(
            f"{folder} has weights of {weights.num_tensors} tensors for {num_layers} layers",
            code="weights_missing",
            hint="provide the complete checkpoint, with the config.json that belongs to it",
            pointer=pointer,
        )


def _require_tokenizer(folder: Path, *, pointer: str) -> None:
    present = {name for name in TOKENIZER_NAMES if (folder / name).is_file()}
    if not present & {"tokenizer.json", "tokenizer.model"} and not {"vocab.json", "merges.txt"} <= present:
        raise ModelUnusable(
            f"{folder} holds no tokenizer",
            code="tokenizer_missing",
            hint="provide tokenizer.json or a sentencepiece tokenizer.model beside the weights",
            pointer=pointer,
        )


def _vocabulary_size(config: Json, *, folder: Path, pointer: str) -> int:
    size = config.get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelUnusable(
            f"{folder / 'config.json'}: vocab_size is {size!r}, expected a number of at least 1",
            code="model_config_broken",
            hint="copy the checkpoint again",
            pointer=pointer,
        )
    return size


def _license(folder: Path) -> str | None:
    """`license` of the model card's front matter, if there is one."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.removeprefix("license:").strip().strip("\"'") or None
    return None
