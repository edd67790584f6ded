"""Tiny random checkpoints with their real transformers classes, built in a second, no download.

Tokenizers: `llama_like` and `openllama_like` are sentencepiece BPE (dummy prefix, byte fallback),
`mpt_like` is byte-level BPE; all three are small real tokenizers trained for the golden data.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

GOLDEN = Path(__file__).parent.parent / "golden"
SPECIAL_TOKENS = {
    "llama_like": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "openllama_like": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "mpt_like": {"eos_token": "<|endoftext|>"},
}
VOCABULARY_SIZE = {"llama_like": 1500, "openllama_like": 1300, "mpt_like": 1600}

_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}


def _llama_shaped(config_class: type[Any], **extra: Any) -> Callable[[int], Any]:
    return lambda size: config_class(
        vocab_size=size, intermediate_size=64, num_key_value_heads=2, **_SMALL, **extra
    )


CONFIG_OF_FAMILY: dict[str, Callable[[int], Any]] = {
    "llama": _llama_shaped(hf.LlamaConfig, tie_word_embeddings=False),
    "mistral": _llama_shaped(hf.MistralConfig),
    "qwen2": _llama_shaped(hf.Qwen2Config, tie_word_embeddings=True),
    "qwen3": _llama_shaped(hf.Qwen3Config, head_dim=8, tie_word_embeddings=True),
    "gemma": _llama_shaped(hf.GemmaConfig, head_dim=8),
    # The head is larger than the tokenizer, as with 50432 rows for 50277 tokens.
    "mpt": lambda size: hf.MptConfig(
        vocab_size=size + 32, d_model=32, n_layers=2, n_heads=4, max_seq_len=512
    ),
    "gpt_neox": lambda size: hf.GPTNeoXConfig(vocab_size=size + 16, intermediate_size=64, **_SMALL),
    "opt": lambda size: hf.OPTConfig(
        vocab_size=size,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        word_embed_proj_dim=32,
        dropout=0.0,
    ),
    "gpt2": lambda size: hf.GPT2Config(
        vocab_size=size,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}


def load_golden_tokenizer(name: str) -> Any:
    """One of the three golden tokenizers, as a transformers tokenizer."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_file=str(GOLDEN / f"{name}.tokenizer.json"), **SPECIAL_TOKENS[name]
    )


def save_tiny_checkpoint(
    folder: Path, *, family: str = "llama", tokenizer: str = "llama_like", seed: int = 0
) -> Path:
    """Write a random 2-layer checkpoint (config, safetensors, tokenizer) and return its folder."""
    torch.manual_seed(seed)
    fast_tokenizer = load_golden_tokenizer(tokenizer)
    config = CONFIG_OF_FAMILY[family](VOCABULARY_SIZE[tokenizer])
    config.eos_token_id = fast_tokenizer.eos_token_id
    config.bos_token_id = fast_tokenizer.bos_token_id
    config.pad_token_id = None
    model = hf.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    fast_tokenizer.save_pretrained(folder)
    return folder
