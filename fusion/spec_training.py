"""How the target is trained, and what becomes of it: what the report compares, and what is stored."""

from typing import Annotated, Literal

from pydantic import Field

from fusion.spec_fields import Dtype, FieldName, Fraction, SpecModel


class TrainingSpec(SpecModel):
    """Full fine-tuning of the target. Defaults are the paper's."""

    method: Literal["full"] = "full"
    num_epochs: Annotated[int, Field(ge=1)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many optimiser steps, whatever `num_epochs` says."""
    sequences_per_step: Annotated[int, Field(ge=1)] = 128
    """Sequences (windows) behind one optimiser step, over all micro-batches and ranks."""
    max_tokens_per_micro_batch: Annotated[int, Field(ge=1)] | None = None
    """Token budget of one forward and backward pass; chosen by the device when not given."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-5
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_fraction: Fraction = 0.008
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute precision; `auto` is bfloat16 on a GPU and float32 on a CPU. Master weights are float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 200
    log_every_steps: Annotated[int, Field(ge=1)] = 10


class EvaluationSpec(SpecModel):
    """What the report compares on the held-out documents."""

    control: bool = True
    """Also train the target on the same text without fusion. What the control explains is not fusion."""
    max_documents: Annotated[int, Field(ge=1)] | None = None
    """Held-out documents scored; all of them when not given."""
    bootstrap_resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class OutputSpec(SpecModel):
    """The fused checkpoint."""

    dtype: Dtype = "auto"
    """Stored precision; `auto` keeps the target's own."""
    max_shard_bytes: Annotated[int, Field(ge=1_000_000)] = 5_000_000_000
    license: FieldName | None = None
    """Licence identifier for the model card."""
