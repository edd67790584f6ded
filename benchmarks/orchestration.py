"""`python -m benchmarks.orchestration`: what the service adds to the time of a whole job.

One job three times on the same models and text: in one process without a service (`fusion run`), with a bare
process for each step, and through `fusion serve`, from the submission to the fused model. The difference
between the first two is the price of a process for every attempt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from app.client import FusionClient
from benchmarks.materials import make_materials
from benchmarks.sizes import FULL, QUICK
from benchmarks.workbench import Workbench
from fusion.plan import plan_steps
from fusion.spec import FusionSpec

START_SECONDS = 60.0
GOAL_SECONDS, GOAL_SHARE = 5.0, 0.05
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def time_one_process(spec: FusionSpec, folder: Path) -> float:
    """`python -m fusion run`, with its start."""
    folder.mkdir()
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")), encoding="utf-8")
    began = time.perf_counter()
    command = [
        "-m",
        "fusion",
        "run",
        str(path),
        "--out",
        str(folder / "run"),
        "--cache",
        str(folder / "cache"),
    ]
    subprocess.run([sys.executable, *command], check=True, env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def time_bare_processes(spec: FusionSpec, folder: Path) -> float:
    """Every step in a process of its own, one after another, as a worker starts them."""
    folder.mkdir()
    began = time.perf_counter()
    for step in plan_steps(spec):
        request = {
            "stage": step.stage,
            "subject": step.subject,
            "spec": spec.model_dump(mode="json"),
            "inputs": {
                "steps": {name: str(folder / name) for name in step.needs},
                "files": {},
                "models": {},
                "capture_cache": str(folder / "cache"),
            },
            "out_dir": str(folder / step.name),
        }
        path = folder / f"{step.name}.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        with (folder / "events").open("ab") as events:
            command = ["-m", "fusion", "stage", str(path), "--events-fd", str(events.fileno())]
            subprocess.run(
                [sys.executable, *command],
                check=True,
                env=_ENVIRONMENT,
                capture_output=True,
                pass_fds=(events.fileno(),),
            )
    return time.perf_counter() - began


def time_service(spec: FusionSpec, folder: Path, *, allowed_root: Path) -> float:
    """From the submission until the job has succeeded, on a service that is already up."""
    with _serving(folder, allowed_root=allowed_root) as client:
        began = time.perf_counter()
        job = client.submit(spec)
        *_, last = client.watch(job.id, poll_seconds=0.1)
        if last.job.status != "succeeded":
            raise RuntimeError(f"the job ended as {last.job.status}: {last.job.error}")
        return time.perf_counter() - began


@contextmanager
def _serving(folder: Path, *, allowed_root: Path) -> Iterator[FusionClient]:
    data = folder / "data"
    command = ["-m", "app.cli", "serve", "--data-dir", str(data), "--port", "0"]
    command += ["--allowed-root", str(allowed_root)]
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *command], env=_ENVIRONMENT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (data / "server.json").is_file():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        url = json.loads((data / "server.json").read_text(encoding="utf-8"))["url"]
        with FusionClient(url, (data / "admin.key").read_text(encoding="utf-8").strip()) as client:
            yield client
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    """Measure and print; exit code 1 when the service adds more than the goal to the bare processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny job, which says nothing of the share")
    parser.add_argument("--cache", type=lambda text: Path(text).resolve(), default=Path(".bench").resolve())
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="fusion-orchestration-") as name:
        folder = Path(name)
        materials = make_materials(options.cache, sizes, say=print)
        spec = Workbench(materials=materials, sizes=sizes, scratch=folder).spec("default")
        one = time_one_process(spec, folder / "one")
        bare = time_bare_processes(spec, folder / "bare")
        served = time_service(spec, folder / "served", allowed_root=options.cache)
    print(f"one process            {one:7.1f} s")
    print(f"bare processes         {bare:7.1f} s   {bare - one:+.1f} s to one process")
    print(
        f"through the service    {served:7.1f} s   {served - bare:+.1f} s ({served / bare - 1:+.1%}) to bare"
    )
    return 0 if served - bare <= max(GOAL_SECONDS, GOAL_SHARE * bare) else 1


if __name__ == "__main__":
    sys.exit(main())
