"""Stage `train`: lessons in, a trained target out; once with fusion, once without (the control)."""

import time
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator

from fusion.io.atomic import write_json
from fusion.io.manifest import read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.llms.checkpoints import checkpoint_digest, resolve_checkpoint
from fusion.llms.device_memory import peak_memory_bytes
from fusion.llms.loading import compute_dtype, load_model, pick_device
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec, TrainingSpec
from fusion.training.checkpoints import config_digest
from fusion.training.loader import LessonReader
from fusion.training.loop import Trainer
from fusion.training.losses import Objective
from fusion.training.output import save_model
from fusion.training.student import Student, make_student

Role = Literal["fused", "control"]

TRAINED_KIND = "trained"
_MAX_TOKENS_PER_MICRO_BATCH = {"cpu": 4096, "cuda": 16384}


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Train the target on the lessons of `align`.

    Role `fused` learns from the blended rows; role `control` sees the same text in the same order for the
    same steps, with the next token alone. Another attempt continues from `checkpoints/`.

    Raises:
        TrainingDiverged: the loss stopped being a number.
        CapacityError: not even one sequence fits into memory.
    """
    role: Role = "control" if inputs.subject == "control" else "fused"
    objective = objective_of(spec, role)
    lessons = inputs.steps["align"]
    target = resolve_checkpoint(spec.target.model, inputs)
    dtype = compute_dtype(spec.training.dtype, pick_device())
    accelerator = Accelerator(cpu=pick_device().type == "cpu", mixed_precision="no")
    student = _load_student(target, accelerator.device, spec.training, progress=progress)
    trainer = Trainer(
        student,
        LessonReader(lessons, with_entries=objective.needs_entries),
        training=spec.training,
        objective=objective,
        seed=spec.seed,
        accelerator=accelerator,
        autocast_dtype=None if dtype == torch.float32 else dtype,
        checkpoint_folder=out_dir / "checkpoints",
        target=target,
        digest=_run_digest(spec, role, target=target, lessons=lessons),
        progress=progress,
        num_speakers=len(spec.speaker_names),
        max_tokens_per_micro_batch=inputs.within_memory(
            spec.training.max_tokens_per_micro_batch or _MAX_TOKENS_PER_MICRO_BATCH[accelerator.device.type]
        ),
    )
    started = time.monotonic()
    state = trainer.run()
    seconds = time.monotonic() - started
    figures = _figures(trainer, seconds=seconds)
    if accelerator.is_main_process:
        stored = save_model(student.model, out_dir / "model", target=target, output=spec.output)
        record = _record(trainer, spec, role=role) | {"stored_dtype": str(stored).removeprefix("torch.")}
        # Times stay out of the file: the same job gives the same bytes.
        write_json(out_dir / "training.json", record | {"curve": state.curve})
        model_files = sorted(
            path.relative_to(out_dir).as_posix() for path in (out_dir / "model").rglob("*") if path.is_file()
        )
        write_manifest(
            out_dir,
            kind=TRAINED_KIND,
            meta={"role": role, **figures},
            files=[*model_files, "training.json"],
        )
    accelerator.wait_for_everyone()
    return StageReport(figures=figures)


def objective_of(spec: FusionSpec, role: Role) -> Objective:
    """The spec's objective; without fusion for the control."""
    objective = spec.strategy.objective
    if role == "control":
        return Objective(clm_weight=1.0, divergence=objective.divergence, tail=objective.tail)
    return Objective(**objective.model_dump())


def _load_student(
    target: Path, device: torch.device, training: TrainingSpec, *, progress: Progress
) -> Student:
    model: Any = load_model(target, dtype="float32", device=device)
    student = make_student(model)
    if student.plain_reason is not None:
        progress.note("the loss runs on the model's own logits", reason=student.plain_reason)
    if training.gradient_checkpointing:
        model.activation_checkpointing_enable()
    return student


def _run_digest(spec: FusionSpec, role: Role, *, target: Path, lessons: Path) -> str:
    """What a checkpoint must share with this run; the target counts by its bytes, wherever it lies."""
    return config_digest(
        role=role,
        seed=spec.seed,
        training=spec.training.model_dump(mode="json"),
        objective=spec.strategy.objective.model_dump(mode="json"),
        target=checkpoint_digest(target),
        lessons=read_manifest(lessons).digest,
    )


def _record(trainer: Trainer, spec: FusionSpec, *, role: Role) -> dict[str, Any]:
    """What was done, without times."""
    curve = trainer.state.curve
    followed = dict(zip([*spec.speaker_names, "mixtures"], trainer.followed, strict=True))
    return {
        "role": role,
        "clm_weight": trainer.objective.clm_weight,
        "clm_weight_alone": trainer.objective.clm_weight_alone,
        "divergence": trainer.objective.divergence,
        "tail": trainer.objective.tail,
        "num_sequences": len(trainer.reader),
        "num_steps": trainer.state.step,
        "num_tokens": trainer.state.num_tokens,
        "max_tokens_per_micro_batch": trainer.state.max_tokens_per_micro_batch,
        "followed": followed if role == "fused" else {},
        "first": curve[0] if curve else None,
        "last": curve[-1] if curve else None,
    }


def _figures(trainer: Trainer, *, seconds: float) -> dict[str, Any]:
    """Figures for the job's report; speed over the steps of this attempt only."""
    state = trainer.state
    num_tokens = state.num_tokens - trainer.num_resumed_tokens
    last = {name: value for name, value in state.curve[-1].items() if name != "step"} if state.curve else {}
    return {
        "num_steps": state.step,
        "num_tokens": state.num_tokens,
        "num_resumed_steps": trainer.num_resumed_steps,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(num_tokens / max(seconds, 1e-9), 1),
        "data_wait_fraction": round(trainer.data_wait_seconds / max(seconds, 1e-9), 4),
        "peak_memory_bytes": peak_memory_bytes(trainer.accelerator.device),
        **last,
    }
