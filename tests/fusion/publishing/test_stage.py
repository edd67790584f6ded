"""Stage `publish`: a folder that loads, proves its bytes and tells its story."""

import math
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion.errors import InfrastructureError, TrainingDiverged
from fusion.io.atomic import read_json
from fusion.io.manifest import verify_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.progress import NullProgress, StageReport
from fusion.publishing import stage
from fusion.spec_text import validate_spec
from tests.fusion.evaluation.trained_job import TrainedJob


class PublishedJob(TrainedJob):
    """A job whose evaluation is done."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.evaluate()
        align = folder / "align"
        align.mkdir()
        write_manifest(align, kind="lessons", meta={"won_share": {"mpt": 0.5}})
        self.steps |= {"align": align, "evaluate": self.out_dir}
        del self.steps["train.control"]

    def publish(self, name: str = "published") -> StageReport:
        inputs = StageInputs(steps=self.steps)
        out_dir = self.folder / name
        out_dir.mkdir(exist_ok=True)
        return stage.run(self.spec, inputs, out_dir, progress=NullProgress())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> PublishedJob:
    return PublishedJob(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture
def job(evaluated, tmp_path) -> PublishedJob:
    return evaluated.copy_to(tmp_path)


def test_published_folder_loads_elsewhere(job, tmp_path):
    report = job.publish()
    moved = shutil.move(tmp_path / "published", tmp_path / "elsewhere")

    model = AutoModelForCausalLM.from_pretrained(moved)
    tokenizer = AutoTokenizer.from_pretrained(moved)
    ids = tokenizer("Hello", return_tensors="pt").input_ids
    expected = load_file(job.steps["train.fused"] / "model/model.safetensors")

    assert torch.equal(model.state_dict()["lm_head.weight"], expected["lm_head.weight"])
    assert model.generate(input_ids=ids, max_new_tokens=2, do_sample=False).shape[1] == ids.shape[1] + 2
    assert report.figures["num_parameters"] == sum(tensor.numel() for tensor in expected.values())


def test_every_file_is_in_the_manifest(job, tmp_path):
    job.publish()

    manifest = verify_manifest(tmp_path / "published")
    names = {file.path for file in manifest.files}
    present = {path.name for path in (tmp_path / "published").iterdir()}
    assert manifest.kind == "model"
    assert names == present - {"manifest.json"}
    assert names >= {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}
    assert manifest.meta["models"]["mpt"]["digest"]
    assert manifest.meta["spec_digest"] == job.spec.digest()


def test_spec_report_and_card_travel_along(job, tmp_path):
    job.publish()

    published = tmp_path / "published"
    assert validate_spec(read_json(published / "fusion_spec.json")) == job.spec
    assert read_json(published / "report.json")["stages"]["align"] == {"won_share": {"mpt": 0.5}}
    card = (published / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    assert f"# {job.spec.name}" in card


def test_same_inputs_same_bytes(job, tmp_path):
    job.publish("one")
    job.publish("two")

    one, two = (verify_manifest(tmp_path / name).digest for name in ("one", "two"))
    assert one == two


def test_figures_of_the_attempt_are_not_published(job, tmp_path):
    trained = job.steps["train.fused"]
    facts = {"role": "fused", "num_steps": 4, "num_tokens": 100}
    speeds = {"seconds": 1.5, "tokens_per_second": 66.6, "peak_memory_bytes": 7, "num_resumed_steps": 0}
    for name, factor in (("one", 1), ("two", 2)):
        figures = {key: value * factor + factor for key, value in speeds.items()}
        write_manifest(trained, kind="trained", meta=facts | figures)
        job.publish(name)

    published = [verify_manifest(tmp_path / name) for name in ("one", "two")]
    assert published[0].digest == published[1].digest
    assert read_json(tmp_path / "one/report.json")["stages"]["train.fused"] == facts


def test_weights_that_are_no_numbers_are_not_published(job, tmp_path):
    trained = job.steps["train.fused"]
    path = trained / "model/model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][3, 4] = math.inf
    save_file(weights, path, metadata={"format": "pt"})
    write_manifest(trained, kind="trained")

    with pytest.raises(TrainingDiverged, match=r"lm_head\.weight"):
        job.publish()

    assert not (tmp_path / "published/manifest.json").exists()


def test_unreadable_weights_are_not_published(job):
    trained = job.steps["train.fused"]
    (trained / "model/model.safetensors").write_bytes(b"not weights")
    write_manifest(trained, kind="trained")

    with pytest.raises(InfrastructureError) as caught:
        job.publish()

    assert caught.value.code == "published_weights_damaged"
