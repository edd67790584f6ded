"""The fusion spec: the one vocabulary that API, workers, engine, client and forms share.

A spec says which source models are fused into which target, over which corpus, by which strategy. It is
validated here and nowhere else; the database stores its JSON, the engine executes it. No torch.

A strategy starts from a preset (`default` or `paper`) and every field can be overridden; validation
merges the preset in, so a stored spec is always explicit and never changes meaning with a later release.

The sections stand in files of their own, `spec_inputs`, `spec_strategy` and `spec_training`, and are imported
from here.

Reference: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from fusion.spec_fields import Dtype, FieldName, Fraction, LocalPath, Slug, SpecModel
from fusion.spec_inputs import (
    SECRET_NAME,
    CorpusFile,
    CorpusSpec,
    HubDataset,
    ModelRef,
    SourceSpec,
    TargetSpec,
)
from fusion.spec_strategy import (
    PRESETS,
    AlignmentSpec,
    BlendingRule,
    BlendingSpec,
    ExtractionSpec,
    Follow,
    ObjectiveSpec,
    Preset,
    Strategy,
    Tail,
    TokenAlignment,
    Unaligned,
    VocabularyMap,
    VocabularySpec,
)
from fusion.spec_training import EvaluationSpec, OutputSpec, TrainingSpec

__all__ = [
    "PRESETS",
    "RESERVED_SOURCE_NAMES",
    "SECRET_NAME",
    "AlignmentSpec",
    "BlendingRule",
    "BlendingSpec",
    "CorpusFile",
    "CorpusSpec",
    "Dtype",
    "EvaluationSpec",
    "ExtractionSpec",
    "FieldName",
    "Follow",
    "Fraction",
    "FusionSpec",
    "HubDataset",
    "LimitsSpec",
    "LocalPath",
    "ModelRef",
    "ObjectiveSpec",
    "OutputSpec",
    "Preset",
    "Slug",
    "SourceSpec",
    "SpecModel",
    "Strategy",
    "Tail",
    "TargetSpec",
    "TokenAlignment",
    "TrainingSpec",
    "Unaligned",
    "VocabularyMap",
    "VocabularySpec",
    "spec_schema",
]

RESERVED_SOURCE_NAMES = frozenset({"target", "control", "fused"})


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
