"""The same checks for the target and for every source, before any of them runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import ModelUnusable, SpecInvalid
from fusion.io.stage_inputs import StageInputs
from fusion.llms.checkpoints import CheckpointInfo, checkpoint_digest, inspect_checkpoint, resolve_checkpoint
from fusion.llms.loading import load_tokenizer
from fusion.llms.token_bytes import EncodedText, TextEncoder
from fusion.spec import FusionSpec, ModelRef

# A character of four byte tokens behind a dummy prefix, with start and end token.
_MIN_POSITIONS = 7
_START_AND_END = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedModel:
    """A checkpoint that passed. `max_text_tokens` leaves room for the start and end token."""

    name: str
    pointer: str
    ref: ModelRef
    info: CheckpointInfo
    digest: str
    encoder: TextEncoder
    max_text_tokens: int

    def require_known_ids(self, encoded: EncodedText) -> None:
        """Refuse a tokenizer that emits ids the model has no embedding for."""
        if len(encoded.ids) and int(encoded.ids.max()) >= self.info.vocabulary_size:
            raise _exceeds(self.name, int(encoded.ids.max()), self.info.vocabulary_size, pointer=self.pointer)

    def describe(self) -> dict[str, Any]:
        """The model's entry in models.json, as far as it is known before the corpus is read."""
        return {
            "model_type": self.info.model_type,
            "architecture": self.info.architecture,
            "label": self.ref.label,
            "hub": self.ref.hub,
            "revision": self.ref.revision,
            "digest": self.digest,
            "license": self.info.license,
            "num_parameters": self.info.num_parameters,
            "vocabulary_size": self.info.vocabulary_size,
            "tokenizer_size": self.encoder.size,
            "max_positions": self.info.max_positions,
            "dtype": self.info.dtype,
        }


def check_models(spec: FusionSpec, inputs: StageInputs) -> list[CheckedModel]:
    """Target first, then the sources in the order of the spec.

    Raises:
        ModelUnusable: as `inspect_checkpoint`, or the tokenizer does not fit.
        SpecInvalid: two of them are the same checkpoint under different names.
    """
    models: list[CheckedModel] = []
    for name, pointer, ref in spec.model_refs():
        folder = resolve_checkpoint(ref, inputs)
        max_tokens = spec.corpus.max_tokens_per_window
        model = _check(name, pointer=pointer, ref=ref, folder=folder, max_tokens=max_tokens)
        twin = next((other for other in models if other.digest == model.digest), None)
        if twin is not None:
            raise SpecInvalid(
                f"{name!r} ({ref.label}) and {twin.name!r} ({twin.ref.label}) are the same checkpoint",
                code="models_identical",
                hint="remove one of them; strategy.target_as_source lets the target take part in blending",
                pointer=pointer,
            )
        models.append(model)
    return models


def _check(name: str, *, pointer: str, ref: ModelRef, folder: Path, max_tokens: int) -> CheckedModel:
    info = inspect_checkpoint(folder, pointer=pointer)
    encoder = TextEncoder(load_tokenizer(folder))
    if encoder.start_id is None:
        raise ModelUnusable(
            f"the tokenizer of {name!r} has neither a start (BOS) nor an end (EOS) token",
            code="tokenizer_no_start_token",
            hint="name one in its tokenizer_config.json (bos_token or eos_token)",
            pointer=pointer,
        )
    for token_id in (encoder.start_id, encoder.eos_id):
        if token_id is not None and token_id >= info.vocabulary_size:
            raise _exceeds(name, token_id, info.vocabulary_size, pointer=pointer)
    if info.max_positions is not None and info.max_positions < _MIN_POSITIONS:
        raise ModelUnusable(
            f"{name!r} reads at most {info.max_positions} tokens; at least {_MIN_POSITIONS} are needed",
            code="model_context_too_short",
            hint="choose a model with a longer context",
            pointer=pointer,
        )
    return CheckedModel(
        name=name,
        pointer=pointer,
        ref=ref,
        info=info,
        digest=checkpoint_digest(folder),
        encoder=encoder,
        max_text_tokens=min(max_tokens, info.max_positions or max_tokens) - _START_AND_END,
    )


def _exceeds(name: str, token_id: int, vocabulary_size: int, *, pointer: str) -> ModelUnusable:
    return ModelUnusable(
        f"the tokenizer of {name!r} uses id {token_id}, but the model has only {vocabulary_size} embeddings",
        code="tokenizer_exceeds_model",
        hint="use the tokenizer that belongs to the checkpoint",
        pointer=pointer,
    )
