"""Estimates over HTTP: what they rest on, and how they stand beside what happened."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app.db.session import in_transaction
from app.jobs import service
from tests.app.jobs import builders as given
from tests.support.api import Api, make_api

PREPARED: dict[str, Any] = {
    "num_bytes": 1_000_000,
    "splits": {
        "train": {"num_bytes": 900_000, "num_windows": 900},
        "held_out": {"num_bytes": 100_000, "num_windows": 100},
    },
    "tokens_per_byte": {"target": 0.3, "mpt": 0.25},
    "models": {
        "target": {"num_parameters": 5_000_000, "vocabulary_size": 32_000},
        "mpt": {"num_parameters": 7_000_000, "vocabulary_size": 50_000},
    },
}
FIGURES: dict[str, dict[str, Any]] = {
    "prepare": PREPARED,
    "extract.mpt": {"seconds": 90.0, "tokens": 10, "device": "cpu", "peak_memory_bytes": 2_000_000_000},
    "train.fused": {"seconds": 90.0, "peak_memory_bytes": 3_000_000_000},
}
NAMES = ("tokens", "hours", "host_memory", "device_memory", "disk", "stored")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    roots = tmp_path / "models"
    roots.mkdir()
    return make_api(tmp_path, allowed_roots=(roots,))


def estimate(api: Api, **changes: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/jobs/estimate", json=given.spec_data(**changes), headers=api.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def upload(api: Api, text: str) -> str:
    answer = api.client.post("/v1/files?filename=a.txt", content=text.encode(), headers=api.headers)
    assert answer.status_code in (200, 201), answer.text
    file_id: str = answer.json()["id"]
    return file_id


def bases(found: dict[str, Any]) -> dict[str, str]:
    return {name: found[name]["basis"] for name in NAMES}


def assert_ordered(found: dict[str, Any]) -> None:
    for figure in [*(found[name] for name in NAMES), *found["steps"].values()]:
        assert figure["why"]
        if figure["value"] is not None:
            assert 0 < figure["low"] <= figure["value"] <= figure["high"], figure


def test_nothing_is_made_up_of_a_dataset_that_nobody_has_read(api: Api) -> None:
    found = estimate(api)

    assert [found[name]["value"] for name in NAMES] == [None] * len(NAMES)
    assert found["tokens"]["why"] == "the size of org/text is not known before a job has read it"
    assert "org/target" in found["host_memory"]["why"]
    assert found["allowed_to_proceed"] is True


def test_what_an_upload_was_counted_at_is_measured_and_the_rest_names_its_assumption(api: Api) -> None:
    corpus = {"files": [{"file_id": upload(api, "word " * 1000)}]}
    models = {
        "target": {"model": {"hub": "org/target-1.1b", "revision": given.REVISION}},
        "sources": [{"name": "mpt", "model": {"hub": "org/mpt_7b", "revision": given.REVISION}}],
    }

    found = estimate(api, corpus=corpus, **models)

    assert_ordered(found)
    assert found["tokens"]["value"] == 1250
    assert "counted when the file was uploaded; assumed: 0.25 tokens per byte" in found["tokens"]["why"]
    # On a CPU the larger source in float32 takes more than training the target does; on a GPU it does not.
    assert found["host_memory"]["low"] < 7e9 * 4 < found["host_memory"]["high"]
    assert "taken from the name of org/mpt_7b" in found["host_memory"]["why"]
    assert found["device_memory"]["low"] < 1.1e9 * 16 < found["device_memory"]["high"]
    assert "bytes per parameter to train" in found["device_memory"]["why"]
    assert set(bases(found).values()) == {"default"}
    assert "assumed" in found["steps"]["train.fused"]["why"]


def test_folders_and_files_on_this_machine_are_looked_at(api: Api, tmp_path: Path) -> None:
    for name, num_bytes in (("target", 4_000_000), ("mpt", 8_000_000)):
        folder = tmp_path / "models" / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16", "vocab_size": 32_000}))
        (folder / "model.safetensors").write_bytes(b"x" * num_bytes)
    (tmp_path / "models" / "c.jsonl").write_text('{"text": "word"}\n' * 1000)

    found = estimate(
        api,
        corpus={"files": [{"path": str(tmp_path / "models" / "c.jsonl")}]},
        target={"model": {"path": str(tmp_path / "models" / "target")}},
        sources=[{"name": "mpt", "model": {"path": str(tmp_path / "models" / "mpt")}}],
    )

    assert_ordered(found)
    assert found["tokens"]["value"] == round(17_000 * 0.9 * 0.25)
    # Two million parameters in bfloat16, sixteen bytes each, and the process.
    assert found["host_memory"]["low"] == round(5e8 + 2_000_000 * 16 * 1.05)
    assert found["host_memory"]["basis"] == "modelled"


def test_a_job_with_the_same_text_and_models_makes_it_measured(api: Api) -> None:
    earlier = given.insert_finished_job(api.engine, api.principal.project_id, seconds=100, figures=FIGURES)

    found = estimate(api)

    assert_ordered(found)
    assert bases(found) == {
        "tokens": "measured",
        "hours": "measured",
        "host_memory": "measured",
        "device_memory": "modelled",
        "disk": "modelled",
        "stored": "modelled",
    }
    assert found["tokens"]["low"] == found["tokens"]["value"] == found["tokens"]["high"] == 300_000
    assert found["hours"]["value"] == pytest.approx(7 * 100 / 3600, abs=1e-4)
    assert found["host_memory"]["value"] == 3_000_000_000
    assert earlier.id in found["tokens"]["why"]
    assert found["stored"]["value"] < found["disk"]["value"]


def test_more_training_takes_longer(api: Api) -> None:
    given.insert_finished_job(api.engine, api.principal.project_id, seconds=100, figures=FIGURES)

    once, thrice = estimate(api), estimate(api, training={"num_epochs": 3})

    for name, times in (("train.fused", 3), ("extract.mpt", 1)):
        work, start = 90.0, 10.0
        expected = (start + times * work) / 3600
        assert thrice["steps"][name]["value"] == pytest.approx(expected, abs=1e-4)
    assert once["steps"]["train.fused"]["value"] == pytest.approx(100 / 3600, abs=1e-4)


def test_jobs_of_other_projects_say_nothing(api: Api) -> None:
    stranger = given.make_project(api.engine, "stranger")
    given.insert_finished_job(api.engine, stranger, seconds=100, figures=FIGURES)

    assert estimate(api)["tokens"]["value"] is None


def test_a_job_beyond_its_own_limit_is_warned_of(api: Api) -> None:
    given.insert_finished_job(api.engine, api.principal.project_id, seconds=100, figures=FIGURES)

    found = estimate(api, limits={"max_disk_bytes": 1000})
    checked = api.client.post(
        "/v1/jobs/validate", json=given.spec_data(limits={"max_disk_bytes": 1000}), headers=api.headers
    ).json()

    assert found["allowed_to_proceed"] is False
    assert found["warnings"][0].startswith("/limits/max_disk_bytes allows 1000 bytes")
    assert checked["warnings"] == found["warnings"] == checked["estimate"]["warnings"]


@pytest.mark.parametrize("path", ["/v1/jobs/validate", "/v1/jobs?dry_run=true"])
def test_checks_come_with_an_estimate(api: Api, path: str) -> None:
    checked = api.client.post(path, json=given.spec_data(), headers=api.headers).json()

    assert checked["estimate"] == estimate(api)


def test_a_finished_job_shows_what_was_expected_beside_what_happened(api: Api) -> None:
    given.insert_finished_job(api.engine, api.principal.project_id, seconds=100, figures=FIGURES)
    job_id = api.client.post("/v1/jobs", json=given.spec_data(), headers=api.headers).json()["id"]
    queued = job_in_full(api, job_id)["estimate"]

    run(api.engine)
    done = job_in_full(api, job_id)["estimate"]

    assert queued["tokens"]["value"] == done["tokens"]["value"] == 300_000
    assert {figure["actual"] for figure in figures_of(queued)} == {None}
    assert (done["tokens"]["actual"], done["host_memory"]["actual"]) == (290_000, 2_000_000_000)
    assert 0 <= done["hours"]["actual"] < 0.1
    assert (done["stored"]["actual"], done["disk"]["actual"], done["device_memory"]["actual"]) == (
        0,
        None,
        None,
    )
    assert all(figure["actual"] is not None for figure in done["steps"].values())


def job_in_full(api: Api, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = api.client.get(f"/v1/jobs/{job_id}", headers=api.headers).json()
    return job


def figures_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(found[name] for name in NAMES), *found["steps"].values()]


def run(engine: Engine) -> None:
    """Run the job; `prepare` counts 290,000 tokens."""
    while (step := given.try_claim(engine)) is not None:
        if step.stage == "prepare":
            fence = {"step_id": step.step_id, "attempt": step.attempt}
            counted = {"done": 1, "total": 1, "unit": "documents", "tokens": 290_000}
            in_transaction(engine, service.record_progress, **fence, **counted)
        figures = {"extract.mpt": FIGURES["extract.mpt"]}.get(step.name)
        given.complete(engine, step, figures=figures)
