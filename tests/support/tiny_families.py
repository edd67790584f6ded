"""Tiny configs of further families: factors, soft caps, biases and ties between hidden states and logits."""

from collections.abc import Callable
from typing import Any

import transformers as hf

from tests.support.tiny_models import CONFIG_OF_FAMILY

VOCABULARY = 200
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def _config(config_class: type[Any], **extra: Any) -> Callable[[], Any]:
    return lambda: config_class(**{**_SHAPE, **extra})


def _wide(config_class: type[Any], **extra: Any) -> Callable[[], Any]:
    return _config(config_class, intermediate_size=64, num_key_value_heads=2, **extra)


FAMILIES: dict[str, Callable[[], Any]] = {
    **{name: lambda make=make: make(VOCABULARY) for name, make in CONFIG_OF_FAMILY.items()},
    "bloom": _config(hf.BloomConfig, hidden_dropout=0.0, attention_dropout=0.0),
    "cohere": _wide(hf.CohereConfig),
    "cohere2": _wide(hf.Cohere2Config),
    "ernie4_5": _wide(hf.Ernie4_5Config, head_dim=8),
    "exaone4": _wide(hf.Exaone4Config),
    "falcon": _config(hf.FalconConfig),
    "gemma2": _wide(hf.Gemma2Config, head_dim=8, final_logit_softcapping=0.05, attn_implementation="eager"),
    "gemma2_uncapped": _wide(hf.Gemma2Config, head_dim=8, final_logit_softcapping=None),
    "gemma3": _wide(hf.Gemma3TextConfig, head_dim=8, final_logit_softcapping=0.03),
    "gptj": _config(hf.GPTJConfig, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, resid_pdrop=0.0),
    "granite": _wide(hf.GraniteConfig, logits_scaling=3.0),
    "hyperclovax": _wide(hf.HyperCLOVAXConfig, logits_scaling=0.7),
    "minicpm3": _config(
        hf.MiniCPM3Config,
        intermediate_size=64,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        num_key_value_heads=4,
        dim_model_base=12,
    ),
    "mixtral": _wide(hf.MixtralConfig, num_local_experts=2),
    "olmo2": _wide(hf.Olmo2Config),
    "phi": _wide(hf.PhiConfig, embd_pdrop=0.0, resid_pdrop=0.0),
    "phi3": _wide(hf.Phi3Config),
    "stablelm": _wide(hf.StableLmConfig),
    "starcoder2": _wide(hf.Starcoder2Config, residual_dropout=0.0, embedding_dropout=0.0),
}
FACTORS_AND_CAPS = {
    # family: hidden factor, scale, cap
    "cohere": (1.0, 0.0625, None),
    "gemma2": (1.0, 1.0, 0.05),
    "gemma2_uncapped": (1.0, 1.0, None),
    "gemma3": (1.0, 1.0, 0.03),
    "granite": (1.0, 1 / 3, None),
    "hyperclovax": (1.0, 0.7, None),
    "minicpm3": (12 / 32, 1.0, None),
    "mpt": (1.0, 1.0, None),
    "phi": (1.0, 1.0, None),
}
