"""The fusion spec: the one vocabulary that API, workers, engine, client and forms share.

A spec says which source models are fused into which target, over which corpus, by which strategy. It is
validated here and nowhere else; the database stores its JSON, the engine executes it. No torch.

A strategy starts from a preset (`default` or `paper`) and every field can be overridden; validation
merges the preset in, so a stored spec is always explicit and never changes meaning with a later release.

Reference: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
LocalPath = Annotated[str, Field(min_length=1, max_length=4096)]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

SECRET_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
RESERVED_SOURCE_NAMES = frozenset({"target", "control", "fused"})

Preset = Literal["default", "paper"]
TokenAlignment = Literal["boundary", "dtw"]
VocabularyMap = Literal["byte_prefix", "exact", "min_edit_distance"]
Unaligned = Literal["mask", "one_hot_next", "one_hot_current"]
BlendingRule = Literal["min_ce", "avg_ce", "weighted"]
Tail = Literal["renormalise", "bucket", "sampled"]
Follow = Literal["always", "while_better"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class SpecModel(BaseModel):
    """Strict (no silent casts), closed (unknown fields are errors) and immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _exactly_one_of(*choices: Sequence[str]) -> dict[str, Any]:
    """For the JSON Schema: exactly one of the groups of fields is given; nulls count as not given."""
    every = {name for names in choices for name in names}
    return {
        "oneOf": [
            {
                "required": list(names),
                "properties": {name: {"not": {"type": "null"}} for name in names}
                | {name: {"type": "null"} for name in sorted(every - set(names))},
            }
            for names in choices
        ]
    }


class ModelRef(SpecModel):
    """A checkpoint: give exactly one of `hub` (with `revision`), `path` or `model_id`."""

    model_config = ConfigDict(
        json_schema_extra=_exactly_one_of(("hub", "revision"), ("path",), ("model_id",))
    )

    hub: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")] | None = (
        None
    )
    """Hugging Face Hub repository, `org/name`."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit of the hub repository: 40 hexadecimal digits. Branches move, so they are not accepted."""
    secret: Annotated[str, Field(pattern=SECRET_NAME)] | None = None
    """Name or id of a secret of the project (`POST /v1/secrets`): the token that opens a private or gated
    repository. Its value stands in no spec."""
    path: LocalPath | None = None
    """Local folder with config, tokenizer and safetensors; in the service, under an allowed root."""
    model_id: Annotated[str, Field(max_length=40, pattern=r"^model-[0-9a-z]+$")] | None = None
    """A model registered with the service."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("hub", "path", "model_id") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of hub, path or model_id (got {', '.join(given) or 'none'})")
        if self.hub is not None and self.revision is None:
            raise ValueError("a hub model needs revision: the full commit hash (40 hexadecimal digits)")
        if self.hub is None and self.revision is not None:
            raise ValueError("revision belongs to hub; remove it or give hub")
        if self.hub is None and self.secret is not None:
            raise ValueError("secret belongs to hub; remove it or give hub")
        return self

    @property
    def label(self) -> str:
        """Short text for logs and cards."""
        return (
            f"{self.hub}@{self.revision[:12]}"
            if self.hub and self.revision
            else self.path or self.model_id or ""
        )


class SourceSpec(SpecModel):
    """A model whose knowledge is fused."""

    name: Slug
    """Unique within the job; appears in step names, reports and the model card."""
    model: ModelRef
    dtype: Dtype = "auto"
    """Precision of the forward pass; `auto` is bfloat16 on a GPU and float32 on a CPU."""


class TargetSpec(SpecModel):
    """The model that is trained."""

    model: ModelRef


class CorpusFile(SpecModel):
    """One file of the corpus: JSONL, plain text or Parquet, by its extension; the first two also compressed
    (`.jsonl.gz`, `.txt.zst`, `.xz`)."""

    model_config = ConfigDict(json_schema_extra=_exactly_one_of(("file_id",), ("path",)))

    file_id: Annotated[str, Field(max_length=40, pattern=r"^file-[0-9a-z]+$")] | None = None
    """A file uploaded to the service."""
    path: LocalPath | None = None
    """A local file; in the service, under an allowed root."""
    format: Literal["jsonl", "text", "parquet"] | None = None
    """Only needed where the file name does not tell."""
    domain: Slug | None = None
    """Label of every document of this file; `domain_field` of a record wins over it."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.file_id is None) == (self.path is None):
            raise ValueError("give exactly one of file_id or path")
        return self


class HubDataset(SpecModel):
    """A dataset of the Hugging Face Hub at a pinned commit."""

    hub: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    config: FieldName | None = None
    split: FieldName = "train"
    domain: Slug | None = None


class CorpusSpec(SpecModel):
    """The text that all models read: `files`, or one `dataset`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["files"],
                    "properties": {"files": {"minItems": 1}, "dataset": {"type": "null"}},
                },
                {
                    "required": ["dataset"],
                    "properties": {"dataset": {"not": {"type": "null"}}, "files": {"maxItems": 0}},
                },
            ]
        }
    )

    files: Annotated[list[CorpusFile], Field(max_length=1000)] = []
    dataset: HubDataset | None = None
    text_field: FieldName = "text"
    """Field of a JSONL or Parquet record that holds the document."""
    messages_field: FieldName | None = None
    """Field with chat messages (`role`, `content`); takes the place of `text_field`."""
    domain_field: FieldName | None = None
    """Field whose value labels the document, so that results are reported per domain."""
    max_tokens_per_window: Annotated[int, Field(ge=8)] = 2048
    """Documents are cut into windows of at most this many tokens of **every** tokenizer in the job. The
    text and this number decide where; a tokenizer has a say only where a window is too long for it."""
    windows_per_shard: Annotated[int, Field(ge=1)] = 1024
    """Unit of resumable work in extract and align."""
    held_out_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Share of documents kept for evaluation, chosen by a hash of the document before anything sees it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.files) == (self.dataset is not None):
            raise ValueError("give either files or dataset")
        return self


class ExtractionSpec(SpecModel):
    """What is kept of a source's next-token distributions."""

    top_k: Annotated[int, Field(ge=1, le=1024)] = 12
    """Entries kept per token."""
    num_tail_samples: Annotated[int, Field(ge=1, le=256)] = 8
    """Draws from the mass outside the top k, under objective.tail `sampled` only (arXiv 2503.16870)."""
    max_tokens_per_batch: Annotated[int, Field(ge=1)] | None = None
    """Token budget of one forward pass; found by probing when not given."""


class AlignmentSpec(SpecModel):
    """Which source position speaks for which target position."""

    tokens: TokenAlignment = "boundary"
    strict: bool = False
    """`boundary` only: the next tokens must end on the same byte too; fewer rows, all of them 1:1."""
    dtw_match: Literal["hard", "soft"] = "soft"
    """`dtw` only: pieces must be equal (`hard`) or one the minimum-edit-distance image of the other."""
    unaligned: Unaligned = "mask"
    """What the target learns where no source speaks. `one_hot_current` reproduces the reference's mistake."""
    max_lossy_fraction: Fraction = 0.2
    """Share of documents a tokenizer may fail to reproduce before the job is refused."""


class VocabularySpec(SpecModel):
    """Which target token a source token counts for."""

    map: VocabularyMap = "byte_prefix"
    duplicates: Literal["add", "first"] = "add"
    """Masses that land on one target token are added, or only the highest is kept (reference)."""
    max_collapsed_whitespace: Fraction = 0.5
    """`byte_prefix` only: rows with more mass than this on whitespace mapped to a shorter run are masked."""


class BlendingSpec(SpecModel):
    """How the rows of several sources become one."""

    rule: BlendingRule = "min_ce"
    granularity: Literal["sequence", "window", "token"] = "sequence"
    window_bytes: Annotated[int, Field(ge=1)] = 256
    """Span of one decision under granularity `window`; smoothing width under `token`."""
    score: Literal["bits_per_byte", "ce_per_token"] = "bits_per_byte"
    """Lower is better. Nats per token cannot be compared across tokenizers."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """`avg_ce`: weights are softmax(-score / temperature)."""
    avg_ce_weights: Literal["softmax_negative", "softmax_exp_negative"] = "softmax_negative"
    """`softmax_exp_negative` is what the reference computes: softmax(exp(-CE)), nearly uniform."""
    weights: dict[str, Annotated[float, Field(ge=0.0)]] | None = None
    """`weighted`: weight per source name (and `target`, where it is a source)."""
    skip_if_target_better: bool = False
    """No distillation where the target already scores better than every source."""


class ObjectiveSpec(SpecModel):
    """L = clm_weight * CLM + (1 - clm_weight) * divergence(blended row, target's row)."""

    clm_weight: Fraction = 0.5
    """The paper's lambda, at rows that a speaker is followed at."""
    clm_weight_alone: Fraction | None = 1.0
    """Weight of CLM at rows without a divergence, where nobody speaks or is followed; null: `clm_weight`."""
    divergence: Literal["ce", "kl"] = "ce"
    tail: Tail = "sampled"
    """Mass outside the kept entries: divided away, kept as one bucket, or sampled."""
    follow: Follow = "while_better"
    """`while_better`: a speaker is followed only as long as it predicts text the target has not been trained
    on yet better than the target does by then, or nearly so. `always`: throughout, as in the paper."""
    follow_margin: Annotated[float, Field(ge=0.0)] = 0.1
    """`while_better`: share of the target's nats by which a speaker may be worse and still be followed."""


class Strategy(SpecModel):
    """How knowledge is captured, aligned, blended and taught. Every field overrides the preset's."""

    preset: Preset = "default"
    target_as_source: bool = True
    """The target's own distribution takes part in blending, as in the paper."""
    extraction: ExtractionSpec = ExtractionSpec()
    alignment: AlignmentSpec = AlignmentSpec()
    vocabulary: VocabularySpec = VocabularySpec()
    blending: BlendingSpec = BlendingSpec()
    objective: ObjectiveSpec = ObjectiveSpec()

    @model_validator(mode="before")
    @classmethod
    def _merge_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        preset = data.get("preset", "default")
        return _merge(PRESETS[preset], data) if isinstance(preset, str) and preset in PRESETS else data

    @property
    def needs_target_capture(self) -> bool:
        """The target is run over the corpus too: as a source, or to know where it is already better."""
        return self.target_as_source or self.blending.skip_if_target_better

    @property
    def num_tail_samples(self) -> int:
        """Draws per row that are captured: none where the tail is not sampled."""
        return self.extraction.num_tail_samples if self.objective.tail == "sampled" else 0

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.alignment.strict and self.alignment.tokens != "boundary":
            raise ValueError("alignment.strict applies to alignment.tokens 'boundary'; remove one of the two")
        if (
            self.alignment.tokens == "dtw"
            and self.alignment.dtw_match == "soft"
            and self.vocabulary.map != "min_edit_distance"
        ):
            raise ValueError(
                "alignment.dtw_match 'soft' needs vocabulary.map 'min_edit_distance'; "
                "choose that map, or alignment.dtw_match 'hard'"
            )
        if self.blending.rule == "weighted" and not self.blending.weights:
            raise ValueError("blending.rule 'weighted' needs blending.weights: one number per source name")
        if self.blending.rule != "weighted" and self.blending.weights:
            raise ValueError(
                "blending.weights is only used by blending.rule 'weighted'; remove it or change the rule"
            )
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # The published method, with the choices of its code where code and text differ.
    "paper": {
        "target_as_source": True,
        "extraction": {"top_k": 10},
        "alignment": {"tokens": "dtw", "dtw_match": "soft", "unaligned": "one_hot_current"},
        "vocabulary": {"map": "min_edit_distance", "duplicates": "first"},
        "blending": {
            "rule": "min_ce",
            "granularity": "sequence",
            "score": "ce_per_token",
            "avg_ce_weights": "softmax_exp_negative",
        },
        "objective": {
            "clm_weight": 0.9,
            "clm_weight_alone": None,
            "divergence": "ce",
            "tail": "renormalise",
            "follow": "always",
        },
    },
}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


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


class LimitsSpec(SpecModel):
    """What the job may use."""

    max_disk_bytes: Annotated[int, Field(ge=1)] | None = None
    """Refuse the job before it starts when its estimated working files exceed this."""


_COMMIT = "0123456789" * 4
_EXAMPLE: dict[str, Any] = {
    "api_version": "fusion/v1",
    "name": "three-into-one",
    "sources": [{"name": "mpt", "model": {"hub": "org/mpt-1b", "revision": _COMMIT}}],
    "target": {"model": {"hub": "org/llama-1b", "revision": _COMMIT}},
    "corpus": {"dataset": {"hub": "org/text", "revision": _COMMIT}},
}


class FusionSpec(SpecModel):
    """A fusion job: sources and target, corpus, strategy, training, evaluation, output."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    api_version: Literal["fusion/v1"]
    name: Slug = "fusion"
    sources: Annotated[list[SourceSpec], Field(min_length=1, max_length=64)]
    target: TargetSpec
    corpus: CorpusSpec
    strategy: Strategy = Field(default_factory=Strategy)
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    output: OutputSpec = OutputSpec()
    limits: LimitsSpec = LimitsSpec()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Same spec, same seed, same machine: same bytes."""

    @field_validator("sources")
    @classmethod
    def _names_are_unique(cls, sources: list[SourceSpec]) -> list[SourceSpec]:
        seen: set[str] = set()
        for index, source in enumerate(sources):
            if source.name in RESERVED_SOURCE_NAMES:
                raise ValueError(f"sources[{index}].name: {source.name!r} is reserved; choose another name")
            if source.name in seen:
                raise ValueError(
                    f"sources[{index}].name: {source.name!r} is used twice; names must be unique"
                )
            seen.add(source.name)
        return sources

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        refs: dict[str, str] = {}
        for index, source in enumerate(self.sources):
            if source.model == self.target.model:
                raise ValueError(
                    f"sources[{index}].model is the target itself; remove this source and set "
                    "strategy.target_as_source: true, which lets the target take part in blending"
                )
            first = refs.setdefault(source.model.label, source.name)
            if first != source.name:
                raise ValueError(
                    f"sources[{index}].model is the same checkpoint as source {first!r}; remove one"
                )
        weights = self.strategy.blending.weights
        if weights is not None:
            known = set(self.speaker_names)
            missing, unknown = known - weights.keys(), weights.keys() - known
            if missing or unknown:
                raise ValueError(
                    "strategy.blending.weights must name exactly the sources "
                    f"(missing: {sorted(missing) or 'none'}; unknown: {sorted(unknown) or 'none'})"
                )
            if not any(weights.values()):
                raise ValueError("strategy.blending.weights: at least one weight must be greater than 0")
        return self

    @property
    def speaker_names(self) -> list[str]:
        """Who takes part in blending, in the order that breaks ties; `target` first, as in the paper."""
        names = [source.name for source in self.sources]
        return ["target", *names] if self.strategy.target_as_source else names

    @property
    def captured_names(self) -> list[str]:
        """Models that are run over the corpus: every source, and the target where the strategy needs it."""
        names = [source.name for source in self.sources]
        return ["target", *names] if self.strategy.needs_target_capture else names

    def model_ref(self, name: str) -> ModelRef:
        """The checkpoint behind `target` or a source's name."""
        if name == "target":
            return self.target.model
        return next(source.model for source in self.sources if source.name == name)

    def model_refs(self) -> Iterator[tuple[str, str, ModelRef]]:
        """(name, JSON pointer, checkpoint) of the target and of every source."""
        yield "target", "/target/model", self.target.model
        for index, source in enumerate(self.sources):
            yield source.name, f"/sources/{index}/model", source.model

    def local_paths(self) -> Iterator[tuple[str, str]]:
        """(JSON pointer, path) of everything the spec reads from the local disk."""
        for _, pointer, ref in self.model_refs():
            if ref.path is not None:
                yield f"{pointer}/path", ref.path
        for index, file in enumerate(self.corpus.files):
            if file.path is not None:
                yield f"/corpus/files/{index}/path", file.path

    def file_ids(self) -> Iterator[tuple[str, str]]:
        """(JSON pointer, file id) of the uploaded files that the corpus names."""
        for index, file in enumerate(self.corpus.files):
            if file.file_id is not None:
                yield f"/corpus/files/{index}/file_id", file.file_id

    def digest(self) -> str:
        """sha256 of the canonical JSON: equal for specs that ask for the same job."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def spec_schema() -> dict[str, Any]:
    """JSON Schema of the spec, for editors, forms and clients."""
    return FusionSpec.model_json_schema()
