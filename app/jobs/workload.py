"""How much work a step is, in a unit that its time grows with, and how much text a job reads. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]

MODEL_BOUND: Final = frozenset({"extract", "train"})
"""Stages whose time grows with the parameters of one model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSize:
    """The text of a job: UTF-8 bytes in all, and what training and evaluation see of it."""

    num_bytes: float
    num_train_bytes: float
    num_held_out_bytes: float
    num_train_windows: float


def size_in_figures(figures: Json | None) -> CorpusSize | None:
    """What `prepare` counted; None where it has not, or not yet."""
    if not figures or "splits" not in figures:
        return None
    train, held_out = figures["splits"]["train"], figures["splits"]["held_out"]
    return CorpusSize(
        num_bytes=figures["num_bytes"],
        num_train_bytes=train["num_bytes"],
        num_held_out_bytes=held_out["num_bytes"],
        num_train_windows=train["num_windows"],
    )


def parameters_in_figures(figures: Json | None) -> dict[str, int]:
    """Parameters of each model by its name in the spec, as `prepare` found them."""
    models = (figures or {}).get("models", {})
    return {name: facts["num_parameters"] for name, facts in models.items()}


def model_of_step(spec: Json, *, stage: str, subject: str | None) -> str | None:
    """Name in the spec of the model that the time of a step depends on; None where it is all of them."""
    if stage == "extract":
        return subject
    return "target" if stage in ("train", "publish") else None


def label_of_model(spec: Json, name: str | None) -> str | None:
    """What identifies the checkpoint behind a name of the spec, in any job."""
    if name is None:
        return None
    refs = {"target": spec["target"]["model"]} | {one["name"]: one["model"] for one in spec["sources"]}
    ref = refs[name]
    if ref.get("hub"):
        return f"{ref['hub']}@{ref['revision']}"
    label: str | None = ref.get("path") or ref.get("model_id")
    return label


def work_of_step(spec: Json, *, stage: str, size: CorpusSize | None) -> float | None:
    """Units of work: bytes read, times the models that read them, or windows trained on; None if unknown."""
    if size is None:
        return None
    if stage == "prepare":
        return size.num_bytes
    if stage == "extract":
        return size.num_train_bytes
    if stage == "align":
        return size.num_train_bytes * num_speakers(spec)
    if stage == "train":
        return num_sequences_trained(spec, num_windows=size.num_train_windows)
    if stage == "evaluate":
        num_trained = 2 if spec["evaluation"]["control"] else 1
        num_models: int = len(spec["sources"]) + 1 + num_trained
        return size.num_held_out_bytes * num_models
    return None


def num_sequences_trained(spec: Json, *, num_windows: float) -> float:
    """Windows that the optimiser sees, repetitions counted."""
    training = spec["training"]
    wanted: float = training["num_epochs"] * num_windows
    if training["max_steps"] is not None:
        wanted = min(wanted, training["max_steps"] * training["sequences_per_step"])
    return wanted


def num_speakers(spec: Json) -> int:
    """Models that take part in blending."""
    return len(spec["sources"]) + int(spec["strategy"]["target_as_source"])
