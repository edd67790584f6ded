"""Floating-point operations: what a model needs, and what a device can do at most."""

from typing import Any

DENSE_BF16_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A40": 149.7,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "V100": 125.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
"""Dense bf16 (V100: fp16) on tensor cores, TFLOP/s, from the makers' data sheets; first name found counts."""


def peak_flops(device_name: str, *, stated_tflops: float | None = None) -> float | None:
    """FLOP/s that an MFU is relative to; None for a device that is not in the table.

    Args:
        stated_tflops: overrules the table.
    """
    if stated_tflops is not None:
        return stated_tflops * 1e12
    return next((peak * 1e12 for name, peak in DENSE_BF16_TFLOPS.items() if name in device_name), None)


def num_matrix_parameters(config: Any) -> int:
    """Weights of a Llama that every token is multiplied with: layers and head, not the embedding's rows."""
    hidden = config.hidden_size
    key_value = hidden * config.num_key_value_heads // config.num_attention_heads
    layer = 2 * hidden * hidden + 2 * hidden * key_value + 3 * hidden * config.intermediate_size
    return int(config.num_hidden_layers * layer + config.vocab_size * hidden)


def forward_flops_per_token(config: Any, *, num_tokens: int) -> float:
    """Of one forward pass over windows of `num_tokens`; a causal token sees half the window on average.

    Training takes three times as much, recomputation not counted: model FLOPs, as in the PaLM paper
    (https://arxiv.org/abs/2204.02311, appendix B), but attention at its causal half.
    """
    attention = 2 * config.num_hidden_layers * config.hidden_size * num_tokens
    return float(2 * num_matrix_parameters(config) + attention)
