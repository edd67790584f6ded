"""`make demo`: the whole product once, on a laptop, with models that are trained on the spot.

Three small models (Llama-like, MPT-like, OpenLLaMA-like) are really trained on text that every Python
installation carries and cached in `.demo/`; the service is started on this machine; a fusion job goes in over
REST; the fused checkpoint is downloaded, loaded with transformers, and the evaluation is shown as it is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from app.client import FusionClient, JobUpdate
from examples.demo.models import make_models
from examples.demo.texts import documents
from fusion.console import report_view

ROOT = Path(".demo").resolve()
START_SECONDS = 60
SHOW_EVERY_SECONDS = 10.0

console = Console(highlight=False)


def main() -> int:
    """Run the demo; returns the exit code."""
    # So that the service is stopped too when the demo is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    ROOT.mkdir(exist_ok=True)
    timings: dict[str, float] = {}
    with phase("Make three small models that know different things", timings):
        models = make_models(ROOT / "models", say=lambda line: console.print("  " + line))
    with phase("Write the fusion corpus: little text, two domains, unseen by any model", timings):
        corpus = write_corpus(ROOT / "corpus.jsonl")
    spec = demo_spec(models, corpus)
    shutil.rmtree(ROOT / "service", ignore_errors=True)
    with service(timings) as client:
        return use_service(client, spec, timings)


def use_service(client: FusionClient, spec: dict[str, Any], timings: dict[str, float]) -> int:
    """Submit, watch, download, load, show."""
    with phase("Submit the job over REST and watch it", timings):
        job = client.submit(spec)
        console.print(f"  POST /v1/jobs -> {job.id}")
        ended = watch(client, job.id)
    if ended.job.status != "succeeded":
        console.print(f"[red]the job {ended.job.status}[/]: {ended.job.error}")
        return 1
    fused = ROOT / "fused"
    shutil.rmtree(fused, ignore_errors=True)
    with phase("Download the fused checkpoint and verify its digests", timings):
        client.download_model(job.id, fused)
        names = ", ".join(sorted(path.name for path in fused.iterdir()))
        console.print(f"  {fused}: {names}")
    with phase("Load it with transformers and generate", timings):
        for prompt in ("def read_", "Return the "):
            console.print("  " + json.dumps(generate(fused, prompt)))
    console.print()
    console.print(report_view(json.loads((fused / "report.json").read_text())))
    console.print("\n[bold]Time by phase[/]")
    for name, seconds in timings.items():
        console.print(f"  {seconds:6.1f} s  {name}")
    return 0


@contextmanager
def phase(title: str, timings: dict[str, float]) -> Iterator[None]:
    """Say what happens now, and remember how long it took."""
    console.print(f"\n[bold]{title}[/]")
    started = time.monotonic()
    yield
    timings[title] = time.monotonic() - started


def write_corpus(path: Path) -> Path:
    """The fusion part of the texts as JSONL with a domain per document."""
    chosen = documents("fusion")
    lines = (json.dumps({"text": document.text, "domain": document.domain}) for document in chosen)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for domain in ("code", "prose"):
        texts = [document.text for document in chosen if document.domain == domain]
        console.print(f"  {domain}: {len(texts)} documents, {sum(map(len, texts)):,} characters")
    return path


def demo_spec(models: dict[str, Path], corpus: Path) -> dict[str, Any]:
    """The job: two specialists and the target itself teach the target."""
    return {
        "api_version": "fusion/v1",
        "name": "demo",
        "sources": [{"name": name, "model": {"path": str(models[name])}} for name in ("code", "prose")],
        "target": {"model": {"path": str(models["target"])}},
        "corpus": {
            "files": [{"path": str(corpus)}],
            "domain_field": "domain",
            "max_tokens_per_window": 256,
            "held_out_fraction": 0.25,
        },
        # The corpus is small, so more than the paper's tenth of the gradient comes from the sources.
        "strategy": {"preset": "default"},
        "training": {
            "num_epochs": 8,
            "max_steps": 160,
            "sequences_per_step": 16,
            "learning_rate": 1e-3,
            "warmup_fraction": 0.1,
            "checkpoint_every_steps": 80,
        },
    }


@contextmanager
def service(timings: dict[str, float]) -> Iterator[FusionClient]:
    """`fusion serve` as a child process, and a client that holds its admin key."""
    command = [sys.executable, "-m", "app.cli", "serve", "--data-dir", str(ROOT / "service"), "--port", "0"]
    command += ["--allowed-root", str(ROOT)]
    log_path = ROOT / "service.log"
    with log_path.open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            with phase("Start the service on this machine", timings):
                url, key = wait_for_service(server, log_path)
                console.print(f"  {url} (log: {log_path})")
            with FusionClient(url, key) as client:
                yield client
        finally:
            os.kill(server.pid, signal.SIGTERM)
            server.wait(timeout=30)


def wait_for_service(server: subprocess.Popen[bytes], log_path: Path) -> tuple[str, str]:
    """URL and admin key, once the service has written them."""
    data = ROOT / "service"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if (data / "server.json").is_file() and (data / "admin.key").is_file():
            url = json.loads((data / "server.json").read_text())["url"]
            return url, (data / "admin.key").read_text().strip()
        time.sleep(0.2)
    raise SystemExit(f"the service did not start; {log_path} ends with:\n{log_path.read_text()[-2000:]}")


def watch(client: FusionClient, job_id: str) -> JobUpdate:
    """Print the job's progress until it ends."""
    shown = 0.0
    stage = None
    for update in client.watch(job_id):
        progress = update.job.progress
        loss = next(
            (point.values["loss"] for point in reversed(update.metrics) if "loss" in point.values), None
        )
        if progress and (progress.stage != stage or time.monotonic() - shown > SHOW_EVERY_SECONDS):
            stage, shown = progress.stage, time.monotonic()
            eta = "" if progress.eta_seconds is None else f", {progress.eta_seconds:.0f} s left in this step"
            console.print(
                f"  {progress.percent:5.1f} %  {update.job.status}, {progress.stage or 'waiting'}{eta}"
                + ("" if loss is None else f", loss {loss:.3f}")
            )
    return update


def generate(folder: Path, prompt: str) -> str:
    """A greedy continuation by the fused model."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(output[0], skip_special_tokens=True))


if __name__ == "__main__":
    sys.exit(main())
