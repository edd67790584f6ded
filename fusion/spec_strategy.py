"""How knowledge is captured, aligned, blended and taught, and the presets that a strategy starts from."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fusion.spec_fields import Fraction, SpecModel

Preset = Literal["default", "paper"]
TokenAlignment = Literal["boundary", "dtw"]
VocabularyMap = Literal["byte_prefix", "exact", "min_edit_distance"]
Unaligned = Literal["mask", "one_hot_next", "one_hot_current"]
BlendingRule = Literal["min_ce", "avg_ce", "weighted"]
Tail = Literal["renormalise", "bucket", "sampled"]
Follow = Literal["always", "while_better"]


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
