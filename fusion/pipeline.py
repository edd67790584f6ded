"""Run a stage, or a whole job on this machine without any service."""

import fcntl
import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.errors import SpecInvalid
from fusion.io.atomic import read_json, write_json
from fusion.io.manifest import is_complete, read_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.plan import PlannedStep, Stage, plan_steps
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

MODULE_OF_STAGE: dict[Stage, str] = {
    "prepare": "fusion.corpus.stage",
    "extract": "fusion.extraction.stage",
    "align": "fusion.alignment.stage",
    "train": "fusion.training.stage",
    "evaluate": "fusion.evaluation.stage",
    "publish": "fusion.publishing.stage",
}
"""Imported when a stage runs: a process that runs one stage must not wait seconds for the other five."""


def run_stage(
    stage: Stage, spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress
) -> StageReport:
    """Run one stage to the end; `out_dir` then carries a manifest.

    Finished parts that an earlier attempt left in `out_dir` are used again.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(MODULE_OF_STAGE[stage])
    report: StageReport = module.run(spec, inputs, out_dir, progress=progress)
    read_manifest(out_dir)
    return report


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalRun:
    """A finished local job: where the model lies, and what each step reported."""

    model: Path
    report: Path
    figures: dict[str, dict[str, Any]]


ProgressOfStep = Callable[[PlannedStep], AbstractContextManager[Progress]]


def run_local(
    spec: FusionSpec, out_dir: Path, *, progress_of: ProgressOfStep, capture_cache: Path | None = None
) -> LocalRun:
    """Run every step of a job in order, in this process.

    Called again with the same folder and spec it continues where it stopped. Captures are shared with other
    runs that are given the same `capture_cache`.

    Raises:
        SpecInvalid: the folder belongs to another spec, is in use, or the spec needs the service.
    """
    _refuse_service_references(spec)
    out_dir.mkdir(parents=True, exist_ok=True)
    with _exclusive(out_dir):
        _claim_folder(spec, out_dir)
        figures = {}
        for step in plan_steps(spec):
            with progress_of(step) as progress:
                figures[step.name] = _run_step(
                    spec, step, out_dir, capture_cache=capture_cache, progress=progress
                )
        model = _link_model(out_dir)
    return LocalRun(model=model, report=step_folder(out_dir, "evaluate") / "report.json", figures=figures)


def step_folder(out_dir: Path, step_name: str) -> Path:
    """Output folder of a step of a local run."""
    return out_dir / "steps" / step_name


def _run_step(
    spec: FusionSpec, step: PlannedStep, out_dir: Path, *, capture_cache: Path | None, progress: Progress
) -> dict[str, Any]:
    folder = step_folder(out_dir, step.name)
    figures_path = out_dir / "figures" / f"{step.name}.json"
    if is_complete(folder) and figures_path.is_file():
        progress.note("already done")
        figures: dict[str, Any] = read_json(figures_path)
        return figures
    inputs = StageInputs(
        subject=step.subject,
        steps={name: step_folder(out_dir, name) for name in step.needs},
        capture_cache=capture_cache,
    )
    report = run_stage(step.stage, spec, inputs, folder, progress=progress)
    figures_path.parent.mkdir(exist_ok=True)
    write_json(figures_path, report.figures)
    return report.figures


def _refuse_service_references(spec: FusionSpec) -> None:
    references = [pointer for pointer, _ in spec.file_ids()]
    references += [f"{pointer}/model_id" for _, pointer, ref in spec.model_refs() if ref.model_id is not None]
    references += [f"{pointer}/secret" for _, pointer, ref in spec.model_refs() if ref.secret is not None]
    if references:
        raise SpecInvalid(
            f"{references[0]} names something the service stores, and this run has no service",
            code="needs_service",
            hint="give a path or a hub revision (a token for private ones in HF_TOKEN), or submit the spec "
            "with `fusion submit`",
            pointer=references[0],
        )


def _claim_folder(spec: FusionSpec, out_dir: Path) -> None:
    spec_path = out_dir / "spec.json"
    data = spec.model_dump(mode="json")
    if not spec_path.exists():
        write_json(spec_path, data)
    elif read_json(spec_path) != data:
        raise SpecInvalid(
            f"{out_dir} holds a run of another spec",
            code="run_folder_taken",
            hint=f"choose another folder, or remove {out_dir} to start over",
        )


@contextmanager
def _exclusive(out_dir: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock goes away with the process, however it ends."""
    descriptor = os.open(out_dir / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpecInvalid(
                f"another process is running in {out_dir}",
                code="run_folder_busy",
                hint="wait for it, or choose another folder",
            ) from error
        yield
    finally:
        os.close(descriptor)


def _link_model(out_dir: Path) -> Path:
    """`out_dir/model`: the published files, hard-linked so that they cost no second copy."""
    published = step_folder(out_dir, "publish")
    model = out_dir / "model"
    shutil.rmtree(model, ignore_errors=True)
    names = [file.path for file in read_manifest(published, kind="model").files]
    for name in [*names, "manifest.json"]:
        link = model / name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(published / name, link)
    return model
