"""Stage `evaluate`: every model is scored once, also over interruptions."""

from pathlib import Path

import pytest

from fusion.evaluation import stage
from fusion.evaluation.documents import read_documents
from fusion.io.manifest import read_manifest
from fusion.progress import NullProgress
from tests.fusion.evaluation.trained_job import TrainedJob, save_trained


class Interrupted(Exception):
    """Stands for a process that is killed."""


class PartProgress(NullProgress):
    """Records finished parts; stops after a given number of them."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.parts: list[str] = []
        self.done: list[tuple[float, float]] = []
        self.notes: list[str] = []
        self._stop_after = stop_after

    def part_finished(self, path: Path) -> None:
        self.parts.append(path.name)
        if len(self.parts) == self._stop_after:
            raise Interrupted

    def update(self, done, total, *, unit, tokens=None) -> None:
        self.done.append((done, total))

    def note(self, message, **details) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> TrainedJob:
    return TrainedJob(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def job(trained, tmp_path) -> TrainedJob:
    return trained.copy_to(tmp_path)


def test_report_holds_every_model_and_domain(job):
    figures = job.evaluate().figures

    names = ["target", "mpt", "prose", "control", "fused"]
    documents = read_documents(job.steps["prepare"], max_documents=None)
    report = job.report
    assert list(figures["bits_per_byte"]) == names
    assert report["num_documents"] == len(documents)
    assert report["overall"]["bytes"] == sum(document.num_bytes for document in documents)
    assert report["domains"].keys() == {document.domain for document in documents}
    # Random weights: about one of 1,500 tokens, at some three bytes each.
    assert all(2 < bits < 12 for bits in figures["bits_per_byte"].values())
    assert [c["baseline"] for c in report["overall"]["comparisons"]] == ["control", "target"]
    assert report["stages"]["prepare"]["corpus_digest"]
    assert [file.path for file in read_manifest(job.out_dir, kind="evaluation").files] == ["report.json"]


def test_interrupted_evaluation_goes_on_where_it_stopped(job):
    with pytest.raises(Interrupted):
        job.evaluate(progress=PartProgress(stop_after=2))

    progress = PartProgress()
    job.evaluate(progress=progress)

    assert progress.parts == ["scores-prose", "scores-control", "scores-fused"]
    assert progress.done[-1][0] == progress.done[-1][1]
    resumed = (job.out_dir / "report.json").read_bytes()
    job.evaluate()
    assert (job.out_dir / "report.json").read_bytes() == resumed


def test_a_model_that_changed_is_scored_again(job):
    job.evaluate()
    save_trained(job.steps["train.fused"], role="fused", seed=99)

    progress = PartProgress()
    job.evaluate(progress=progress)

    assert progress.parts == ["scores-fused"]


def test_torn_scores_are_made_again(job):
    job.evaluate()
    (job.out_dir / "scores-mpt" / "scores.safetensors").write_bytes(b"")

    progress = PartProgress()
    job.evaluate(progress=progress)

    assert progress.parts == ["scores-mpt"]


def test_equal_models_get_equal_scores(tmp_path):
    job = TrainedJob(tmp_path, roles=())
    job.steps["train.fused"] = save_trained(tmp_path / "train.fused", role="fused", seed=0)

    job.evaluate()

    comparison = job.report["overall"]["comparisons"][0]
    assert (comparison["baseline"], comparison["difference"]) == ("target", 0.0)
    assert comparison["verdict"] == "too_few_documents"


def test_max_documents_limits_the_work(tmp_path):
    job = TrainedJob(tmp_path, evaluation={"max_documents": 2, "bootstrap_resamples": 100})

    job.evaluate()

    assert job.report["num_documents"] == 2


def test_nothing_held_out_is_said_and_not_fatal(job, monkeypatch):
    monkeypatch.setattr(stage, "read_documents", lambda *_args, **_kwargs: [])
    progress = PartProgress()

    job.evaluate(progress=progress)

    assert progress.notes == ["no held-out document could be scored"]
    assert job.report["overall"]["models"]["fused"]["bits_per_byte"] is None
