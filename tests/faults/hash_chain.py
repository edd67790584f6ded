"""A stand-in for the engine whose output tells everything that was read, in which order and how often.

Every stage hashes its inputs and then its samples, one after another. A sample that was skipped or read
twice, an input of another job, or a checkpoint of another run give another last hash than
`expected_chains`. Beside it lies the name of the attempt that wrote it: the work of a stale one shows
although its hash is right.

    python -m tests.faults.hash_chain REQUEST --events-fd N
"""

import hashlib
import os
import sys
import time
from pathlib import Path

from fusion import stage_process
from fusion.io.atomic import atomic_folder, read_json, write_json
from fusion.io.end_request import asked_to_end
from fusion.io.manifest import is_complete, verify_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.plan import Stage, plan_steps
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

CHAIN_NAME = "chain.json"
ATTEMPT_NAME = "attempt.json"
NUM_SAMPLES = 12
SAMPLES_PER_PART = 3
SAMPLE_SECONDS_VARIABLE = "CHAIN_SAMPLE_SECONDS"


def main() -> None:
    """Speak the child protocol of the real engine, with these stages in place of its own."""
    request, _, descriptor = sys.argv[1:]
    stage_process.run_stage = run_stage
    sys.exit(stage_process.run_request(Path(request), events_descriptor=int(descriptor)))


def run_stage(
    stage: Stage, spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress
) -> StageReport:
    """Hash the samples of a step, one part after another, from the last part that is there."""
    name = stage if inputs.subject is None else f"{stage}.{inputs.subject}"
    pause = float(os.environ.get(SAMPLE_SECONDS_VARIABLE, "0.03"))
    value = start_of(spec.name, name, {step: _chain_in(folder) for step, folder in inputs.steps.items()})
    done = 0
    for part in sorted((out_dir / "parts").glob("step-*")):
        if is_complete(part):
            saved = read_json(verified(part) / CHAIN_NAME)
            value, done = saved["chain"], saved["done"]
    resumed_from = done
    with asked_to_end() as end_is_wanted:
        while done < NUM_SAMPLES and not end_is_wanted():
            value = link(value, f"{name}:{done}")
            done += 1
            time.sleep(pause)
            progress.update(done, NUM_SAMPLES, unit="samples")
            progress.metrics(done, {"value": float(int(value[:6], 16))})
            if done % SAMPLES_PER_PART == 0 and done < NUM_SAMPLES:
                _store_part(out_dir, value=value, done=done, progress=progress)
    if done < NUM_SAMPLES:
        raise InterruptedError("asked to end")
    write_json(out_dir / CHAIN_NAME, {"chain": value, "done": done})
    step_id, attempt = out_dir.parts[-3:-1]
    write_json(
        out_dir / ATTEMPT_NAME, {"step_id": step_id, "attempt": int(attempt), "resumed_from": resumed_from}
    )
    write_manifest(out_dir, kind="model" if stage == "publish" else "chain", files=[CHAIN_NAME, ATTEMPT_NAME])
    return StageReport(figures={"chain": value, "resumed_from": resumed_from})


def expected_chains(spec: FusionSpec) -> dict[str, str]:
    """The hash of every step of a job that nothing disturbed."""
    chains: dict[str, str] = {}
    for step in plan_steps(spec):
        value = start_of(spec.name, step.name, {need: chains[need] for need in step.needs})
        for sample in range(NUM_SAMPLES):
            value = link(value, f"{step.name}:{sample}")
        chains[step.name] = value
    return chains


def expected_part(spec: FusionSpec, name: str, *, done: int) -> str:
    """The hash of a step after some of its samples."""
    chains = expected_chains(spec)
    (needs,) = (step.needs for step in plan_steps(spec) if step.name == name)
    value = start_of(spec.name, name, {need: chains[need] for need in needs})
    for sample in range(done):
        value = link(value, f"{name}:{sample}")
    return value


def start_of(job_name: str, step_name: str, inputs: dict[str, str]) -> str:
    """The hash before the first sample: which job, which step, and what it read."""
    value = link(job_name, step_name)
    for name in sorted(inputs):
        value = link(value, f"{name}={inputs[name]}")
    return value


def link(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _store_part(out_dir: Path, *, value: str, done: int, progress: Progress) -> None:
    part = out_dir / "parts" / f"step-{done:04d}"
    part.parent.mkdir(exist_ok=True)
    with atomic_folder(part) as partial:
        write_json(partial / CHAIN_NAME, {"chain": value, "done": done})
        write_manifest(partial, kind="part")
    progress.part_finished(part)


def verified(folder: Path) -> Path:
    """The folder, whose every byte is what its manifest says."""
    verify_manifest(folder)
    return folder


def _chain_in(folder: Path) -> str:
    chain: str = read_json(verified(folder) / CHAIN_NAME)["chain"]
    return chain


if __name__ == "__main__":
    main()
