"""Loading tokenizers and models from a checkpoint folder: from safetensors, running no foreign code."""

import errno
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from fusion.errors import ModelUnusable
from fusion.exhaustion import is_out_of_memory
from fusion.llms.sentencepiece_import import import_sentencepiece
from fusion.spec import Dtype

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_EXTRA_SPECIAL_TOKENS = ("extra_special_tokens", "additional_special_tokens")
_GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_TORCH_DTYPE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Json = dict[str, Any]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint exactly as its files describe it.

    The class that `tokenizer_config.json` names is ignored: some classes replace the normaliser of
    `tokenizer.json` and then lose spaces. A folder with only `tokenizer.model` is converted.

    Raises:
        ModelUnusable: no tokenizer, or one that cannot be read.
    """
    config = {
        **_read_json(folder / "tokenizer_config.json"),
        **_read_json(folder / "special_tokens_map.json"),
    }
    backend, special_tokens = _load_backend(folder, config=config)
    special_tokens |= {name: text for name in _SPECIAL_TOKENS if (text := _token_text(config.get(name)))}
    if "eos_token" not in special_tokens:
        special_tokens |= _eos_of_model(folder, backend)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        extra_special_tokens=_extra_special_tokens(config),
        clean_up_tokenization_spaces=False,
        **special_tokens,
        **_kept_settings(folder, config),
    )
    # transformers installs a post-processor of its own where the file has none.
    if backend.post_processor is not None:
        tokenizer.backend_tokenizer.post_processor = backend.post_processor
    return tokenizer


def load_model(folder: Path, *, dtype: Dtype, device: torch.device) -> PreTrainedModel:
    """The causal language model of a checkpoint, in evaluation mode on `device`.

    Raises:
        ModelUnusable: the weights are missing, damaged or do not fit the config.
        MemoryError, RuntimeError, OSError: this machine failed, not the checkpoint; as they came.
    """
    transformers_logging.disable_progress_bar()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute_dtype(dtype, device),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # a config can make the library raise any
        if _is_fault_of_machine(error):
            raise
        raise ModelUnusable(
            f"{folder} cannot be loaded as a causal language model: {error}",
            code="model_not_loadable",
            hint="check that AutoModelForCausalLM.from_pretrained loads the folder",
        ) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelUnusable(
            f"{folder} lacks {len(missing)} of its model's weights, e.g. {missing[0]}",
            code="weights_missing",
            hint="provide the complete checkpoint; weights that are not there would be random",
        )
    return model.to(device).eval()


def pick_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Precision of the forward pass; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if dtype != "auto":
        return _TORCH_DTYPE[dtype]
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _is_fault_of_machine(error: Exception) -> bool:
    """Whether memory or a disk failed.

    What transformers finds wrong with a checkpoint it raises as OSError without a number.
    """
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOENT)
    return is_out_of_memory(error)


def _load_backend(folder: Path, *, config: Json) -> tuple[Tokenizer, dict[str, str]]:
    """The `tokenizers` pipeline, and special tokens that its own file names."""
    if (folder / "tokenizer.json").is_file():
        return _read_tokenizer_json(folder / "tokenizer.json"), {}
    if (folder / "tokenizer.model").is_file():
        return import_sentencepiece(folder / "tokenizer.model")
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    is_gpt2 = config.get("tokenizer_class", _GPT2_CLASSES[0]) in _GPT2_CLASSES
    if is_gpt2 and vocabulary.is_file() and merges.is_file():
        backend = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
        prefix = bool(config.get("add_prefix_space", False))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        backend.decoder = decoders.ByteLevel()
        return backend, {}
    raise ModelUnusable(
        f"{folder} holds no tokenizer this service can read",
        code="tokenizer_missing",
        hint="provide tokenizer.json (any fast tokenizer's save_pretrained writes it) or a sentencepiece "
        "tokenizer.model",
    )


def _read_tokenizer_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every broken file
        raise ModelUnusable(
            f"{path} cannot be read: {error}",
            code="tokenizer_unsupported",
            hint="save the tokenizer again with a current version of transformers",
        ) from error


def _token_text(value: Any) -> str | None:
    """A special token is stored as text or as the fields of an `AddedToken`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _extra_special_tokens(config: Json) -> list[str]:
    found: dict[str, None] = {}
    for name in _EXTRA_SPECIAL_TOKENS:
        stored = config.get(name) or []
        values = stored.values() if isinstance(stored, dict) else stored
        found |= dict.fromkeys(text for value in values if (text := _token_text(value)))
    return list(found)


def _eos_of_model(folder: Path, backend: Tokenizer) -> dict[str, str]:
    """The end token that `config.json` names by id, for tokenizers that name none."""
    token_id = _read_json(folder / "config.json").get("eos_token_id")
    token_id = token_id[0] if isinstance(token_id, list) and token_id else token_id
    text = backend.id_to_token(token_id) if isinstance(token_id, int) and token_id >= 0 else None
    return {"eos_token": text} if text else {}


def _kept_settings(folder: Path, config: Json) -> Json:
    """What a saved copy must not lose."""
    settings: Json = {name: config[name] for name in ("model_max_length", "chat_template") if name in config}
    template = folder / "chat_template.jinja"
    if template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings


def _read_json(path: Path) -> Json:
    if not path.is_file():
        return {}
    try:
        data: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnusable(
            f"{path} is not JSON: {error}", code="model_config_broken", hint="copy the checkpoint again"
        ) from error
    return data
