"""Putting an estimate together: text and models first, then what follows from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from sqlalchemy.orm import Session

from app.jobs.estimates.figures import Basis, Figure, total, weakest
from app.jobs.estimates.hours import Sizes, seconds_of_plan
from app.jobs.estimates.memory import device_memory, host_memory
from app.jobs.estimates.model_sizes import ModelSize, model_sizes
from app.jobs.estimates.past import past_jobs
from app.jobs.estimates.text import size_of_text, text_of, tokens_per_byte
from app.jobs.experience import read_history
from fusion.job_sizes import estimate_disk
from fusion.spec import FusionSpec

UNITS: Mapping[str, str] = {
    "tokens": "tokens",
    "hours": "hours",
    "host_memory": "bytes",
    "device_memory": "bytes",
    "disk": "bytes",
    "stored": "bytes",
}
"""The figures of an estimate, by name."""
_SMALL_VOCABULARY, _LARGE_VOCABULARY = 32_000, 152_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Figures by name, hours of each step by its name. `warnings`: what will stop the job as it stands."""

    figures: dict[str, Figure]
    steps: dict[str, Figure]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        def figures(part: str) -> dict[str, Figure]:
            return {
                name: Figure(**{**figure, "basis": Basis(figure["basis"])})
                for name, figure in data[part].items()
            }

        return cls(figures=figures("figures"), steps=figures("steps"), warnings=list(data["warnings"]))


def estimate_job(session: Session, spec: FusionSpec, *, project_id: str) -> Estimate:
    """What a job with this spec will take, by what this project's jobs took.

    Local files are looked at where this machine has them, so the spec's paths have been checked before.
    """
    history = read_history(session, project_id=project_id)
    past = past_jobs(history)
    text = text_of(session, spec, past)
    ratios = {name: tokens_per_byte(spec, past, name) for name, _, _ in spec.model_refs()}
    tokens = text.num_bytes.times(ratios["target"])
    models = model_sizes(session, spec, past)
    parameters = {name: model.num_parameters for name, model in models.items()}
    sizes = Sizes(corpus=size_of_text(spec, text, tokens), tokens=tokens, parameters=parameters)
    seconds = seconds_of_plan(spec, sizes, history.measured)
    disk = _bytes_written(spec, text.num_bytes, ratios, models, checkpoints=True)
    return Estimate(
        figures={
            "tokens": tokens,
            "hours": _in_hours(total(list(seconds.values()), why=_why_hours(list(seconds.values())))),
            "host_memory": host_memory(spec, parameters, past),
            "device_memory": device_memory(spec, parameters, past),
            "disk": disk,
            "stored": _bytes_written(spec, text.num_bytes, ratios, models, checkpoints=False),
        },
        steps={name: _in_hours(figure) for name, figure in seconds.items()},
        warnings=_warnings(spec, disk),
    )


def _bytes_written(
    spec: FusionSpec,
    num_bytes: Figure,
    ratios: Mapping[str, Figure],
    models: Mapping[str, ModelSize],
    *,
    checkpoints: bool,
) -> Figure:
    """Files of the job as `prepare` will compute them, with or without those that do not stay."""
    target = models["target"].num_parameters
    missing = next((figure for figure in (num_bytes, target) if figure.value is None), None)
    if missing is not None:
        return Figure.unknown(missing.why)

    def total_bytes(edge: str, vocabulary_size: int) -> float:
        estimate = estimate_disk(
            spec,
            num_bytes=round(getattr(num_bytes, edge)),
            tokens_per_byte={name: getattr(ratio, edge) for name, ratio in ratios.items()},
            vocabulary_sizes={
                name: model.vocabulary_size or vocabulary_size for name, model in models.items()
            },
            num_target_parameters=round(getattr(target, edge)),
        )
        return float(estimate.total if checkpoints else estimate.total - estimate.checkpoints)

    bases = [num_bytes.basis, target.basis, *(ratio.basis for ratio in ratios.values())]
    return Figure.within(
        # Rows without a full set of entries and weights in half precision take less than is reckoned with.
        0.6 * total_bytes("low", _SMALL_VOCABULARY),
        total_bytes("value", _LARGE_VOCABULARY),
        total_bytes("high", _LARGE_VOCABULARY),
        # Never measured: what is computed from counts is still computed.
        basis=weakest([Basis.MODELLED, *bases]),
        why=f"{'with' if checkpoints else 'without'} checkpoints; {num_bytes.why}; {target.why}",
    )


def _in_hours(seconds: Figure) -> Figure:
    per_hour = Figure.exactly(1.0 / 3600.0, why="")
    hours = seconds.times(per_hour)
    return Figure(value=hours.value, low=hours.low, high=hours.high, basis=seconds.basis, why=seconds.why)


def _why_hours(seconds: list[Figure]) -> str:
    of_basis = {basis: sum(figure.basis is basis for figure in seconds) for basis in Basis}
    parts = [f"{number} {basis}" for basis, number in of_basis.items() if number]
    return f"of one worker, all steps one after another: {', '.join(parts)}"


def _warnings(spec: FusionSpec, disk: Figure) -> list[str]:
    limit = spec.limits.max_disk_bytes
    if limit is not None and disk.low is not None and disk.low > limit:
        return [
            f"/limits/max_disk_bytes allows {limit} bytes, and the job needs at least {disk.low:.0f}: "
            "it will be refused once its text is counted"
        ]
    return []
