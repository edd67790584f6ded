"""What the largest step of a job holds in memory: of the machine, or of its accelerator where it has one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.jobs.estimates.figures import Basis, Figure, weakest
from app.jobs.estimates.past import PastJob
from fusion.job_sizes import TRAINING_BYTES_PER_PARAMETER
from fusion.spec import FusionSpec

_PROCESS_BYTES: Final = (5e8, 8e8, 2e9)
"""Of an interpreter with its libraries."""
_ACTIVATIONS: Final = (1.05, 1.3, 2.5)
"""What a step holds besides weights and state, as factors of them; in truth they grow with the batch."""
_WEIGHT_BYTES: Final = {"cpu": 4.0, "cuda": 2.0}


def host_memory(spec: FusionSpec, parameters: Mapping[str, Figure], past: Sequence[PastJob]) -> Figure:
    """Bytes that the largest step takes on a machine without an accelerator."""
    return _measured(spec, past, device="cpu") or _modelled(spec, parameters, device="cpu")


def device_memory(spec: FusionSpec, parameters: Mapping[str, Figure], past: Sequence[PastJob]) -> Figure:
    """Bytes that the largest step takes of a GPU, where workers have one."""
    return _measured(spec, past, device="cuda") or _modelled(spec, parameters, device="cuda")


def peak_of_job(job: PastJob, *, device: str) -> float | None:
    """The most that a step of a finished job held on such a device; None where none ran on one."""
    figures: list[Mapping[str, Any]] = [step.figures or {} for step in job.steps]
    devices = {str(one["device"]).partition(":")[0] for one in figures if "device" in one}
    # Only captures name their device; a job's steps are all run where those were.
    if devices != {device}:
        return None
    return max((one["peak_memory_bytes"] for one in figures if "peak_memory_bytes" in one), default=None)


def _measured(spec: FusionSpec, past: Sequence[PastJob], *, device: str) -> Figure | None:
    """From jobs with the same models and batches."""
    for job in past:
        names = [job.name_of_model(ref) for _, _, ref in spec.model_refs()]
        is_like = None not in names and names[0] == "target" and _batches(job.spec) == _batches(_dump(spec))
        peak = peak_of_job(job, device=device) if is_like else None
        if peak is not None:
            why = f"the most that {job.job_id} held, with the same models and batches"
            return Figure.within(0.8 * peak, peak, 1.3 * peak, basis=Basis.MEASURED, why=why)
    return None


def _modelled(spec: FusionSpec, parameters: Mapping[str, Figure], *, device: str) -> Figure:
    missing = next((figure for figure in parameters.values() if figure.value is None), None)
    if missing is not None:
        return Figure.unknown(missing.why)
    trained = _held(parameters["target"], float(TRAINING_BYTES_PER_PARAMETER), "to train", device=device)
    run = [_held(one, _WEIGHT_BYTES[device], "to run", device=device) for one in parameters.values()]
    return max([trained, *run], key=lambda figure: figure.value or 0.0)


def _held(parameters: Figure, bytes_per_parameter: float, purpose: str, *, device: str) -> Figure:
    """What one model takes."""
    process = _PROCESS_BYTES if device == "cpu" else (0.0, 0.0, 0.0)
    low, value, high = (
        base + bytes_per_parameter * number * activations
        for base, number, activations in zip(process, _range(parameters), _ACTIVATIONS, strict=True)
    )
    return Figure.within(
        low,
        value,
        high,
        basis=weakest([Basis.MODELLED, parameters.basis]),
        why=f"{bytes_per_parameter:g} bytes per parameter {purpose}, and "
        f"{_ACTIVATIONS[1] - 1:.0%} for activations; {parameters.why}",
    )


def _range(figure: Figure) -> tuple[float, float, float]:
    return figure.low or 0.0, figure.value or 0.0, figure.high or 0.0


def _batches(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    training = spec["training"]
    return (
        spec["corpus"]["max_tokens_per_window"],
        spec["strategy"]["extraction"]["max_tokens_per_batch"],
        *(training[name] for name in ("max_tokens_per_micro_batch", "dtype", "gradient_checkpointing")),
    )


def _dump(spec: FusionSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")
