"""Finished jobs of the project, as estimates use them: which text and models they had, what they found."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.db.models import Step
from app.jobs.experience import History, figures_of_prepare
from app.jobs.workload import CorpusSize, label_of_model, size_in_figures
from fusion.spec import FusionSpec, ModelRef

_WHAT_IS_READ = ("files", "dataset", "text_field", "messages_field")


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedModel:
    num_parameters: int
    vocabulary_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PastJob:
    """A job whose `prepare` has finished."""

    job_id: str
    spec: Mapping[str, Any]
    steps: Sequence[Step]

    @property
    def prepared(self) -> Mapping[str, Any]:
        return figures_of_prepare(self.steps) or {}

    @property
    def corpus_size(self) -> CorpusSize | None:
        return size_in_figures(self.prepared)

    def has_text_of(self, spec: FusionSpec) -> bool:
        """Whether it read the same files or dataset."""
        return _text_read(self.spec) == _text_read(spec.model_dump(mode="json"))

    def has_windows_of(self, spec: FusionSpec) -> bool:
        """Whether it cut them in the same way, too."""
        corpus = spec.corpus
        same = self.spec["corpus"]
        return (same["max_tokens_per_window"], same["held_out_fraction"]) == (
            corpus.max_tokens_per_window,
            corpus.held_out_fraction,
        )

    def name_of_model(self, ref: ModelRef) -> str | None:
        """What it called a checkpoint; None where it did not use it."""
        wanted = label_of_model({"target": {"model": ref.model_dump()}, "sources": []}, "target")
        names = ["target", *(source["name"] for source in self.spec["sources"])]
        return next((name for name in names if label_of_model(self.spec, name) == wanted), None)

    def size_of_model(self, ref: ModelRef) -> CountedModel | None:
        """What it counted of a checkpoint."""
        name = self.name_of_model(ref)
        facts = self.prepared.get("models", {}).get(name)
        return None if facts is None else CountedModel(**facts)

    def tokens_per_byte(self, ref: ModelRef) -> float | None:
        """How its tokenizer read the text."""
        ratio: float | None = self.prepared.get("tokens_per_byte", {}).get(self.name_of_model(ref))
        return ratio


def past_jobs(history: History) -> list[PastJob]:
    """Jobs that finished, the newest first."""
    jobs = [
        PastJob(job_id=job_id, spec=spec, steps=history.steps[job_id])
        for job_id, spec in history.specs.items()
    ]
    return [job for job in jobs if job.spec and job.prepared]


def _text_read(spec: Mapping[str, Any]) -> str:
    corpus = spec["corpus"]
    files = [{name: file.get(name) for name in ("file_id", "path", "format")} for file in corpus["files"]]
    read = {name: corpus.get(name) for name in _WHAT_IS_READ} | {"files": files}
    return json.dumps(read, sort_keys=True)
