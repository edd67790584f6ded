"""A job asked for in OpenAI's words: three ways to bring the spec, and what is wrong with each."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.db.models import AuditEvent, Job
from app.db.session import read_only
from app.jobs.lifecycle import JobStatus
from app.openai_face.schemas import STATUS
from tests.app.jobs import builders as given
from tests.support.api import Api, make_api

PATH = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    api = make_api(tmp_path_factory.mktemp("face"))
    api.client.headers.update(api.headers)
    return api


@pytest.fixture(scope="module")
def client(api: Api) -> TestClient:
    return api.client


@pytest.fixture(scope="module")
def corpus(client: TestClient) -> str:
    return upload(client, b'{"text": "a document"}\n', "corpus.jsonl", "fine-tune")


@pytest.fixture(scope="module")
def models(client: TestClient) -> dict[str, str]:
    return {
        name: client.post(
            "/v1/models", json={"name": name, "ref": {"hub": f"org/{name}", "revision": given.REVISION}}
        ).json()["id"]
        for name in ("target", "source")
    }


@pytest.fixture
def recipe(corpus: str, models: dict[str, str]) -> dict[str, Any]:
    return {
        "model": "fusion:small-cpu@1",
        "training_file": corpus,
        "metadata": {"fusion.target": models["target"], "fusion.source": models["source"], "team": "nlp"},
    }


def test_a_spec_in_the_body(client: TestClient) -> None:
    answer = client.post(
        PATH, json={"model": "fusion", "training_file": "fusion", "fusion": given.spec_data()}
    )

    job, native = answer.json(), client.get(f"/v1/jobs/{answer.json()['id']}").json()
    assert answer.status_code == 200
    assert answer.headers["location"] == f"{PATH}/{job['id']}"
    assert (job["object"], job["status"], job["error"], job["result_files"]) == (
        "fine_tuning.job",
        "queued",
        None,
        [],
    )
    assert native["spec"]["sources"][0]["name"] == "mpt"
    assert job["model"] == f"org/target@{given.REVISION}"
    assert job["training_file"] == f"org/text@{given.REVISION}"


def test_corpus_and_target_of_the_request_where_the_spec_has_none(
    client: TestClient, corpus: str, models: dict[str, str]
) -> None:
    spec = given.spec_data()
    del spec["target"], spec["corpus"]
    spec["corpus"] = {"held_out_fraction": 0.2}

    answer = client.post(PATH, json={"model": models["target"], "training_file": corpus, "fusion": spec})

    native = client.get(f"/v1/jobs/{answer.json()['id']}").json()["spec"]
    assert native["target"]["model"]["model_id"] == models["target"]
    assert native["corpus"]["files"][0]["file_id"] == corpus
    assert native["corpus"]["held_out_fraction"] == 0.2


@pytest.mark.parametrize("purpose", ["spec", "fusion-spec"])
def test_an_uploaded_spec(client: TestClient, purpose: str) -> None:
    spec_file = upload(client, json.dumps(given.spec_data(name=purpose)).encode(), "spec.yaml", purpose)

    job = client.post(PATH, json={"model": "org/target", "training_file": spec_file}).json()

    assert (job["training_file"], job["suffix"]) == (spec_file, purpose)
    assert client.get(f"/v1/jobs/{job['id']}").json()["spec"]["sources"][0]["name"] == "mpt"


def test_a_recipe_with_its_parameters(
    client: TestClient, recipe: dict[str, Any], models: dict[str, str]
) -> None:
    recipe["metadata"] |= {"fusion.max_steps": "7", "fusion.text_field": "text"}
    recipe |= {
        "suffix": "first-look",
        "seed": 5,
        "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 2},
        "unheard_of": True,
    }

    job = client.post(PATH, json=recipe).json()

    spec = client.get(f"/v1/jobs/{job['id']}").json()["spec"]
    assert (spec["name"], spec["seed"], spec["target"]["model"]["model_id"]) == (
        "first-look",
        5,
        models["target"],
    )
    assert {name: spec["training"][name] for name in ("num_epochs", "max_steps", "sequences_per_step")} == {
        "num_epochs": 3,
        "max_steps": 7,
        "sequences_per_step": 16,
    }
    assert spec["training"]["learning_rate"] == pytest.approx(4e-5)
    assert (job["model"], job["training_file"]) == (recipe["model"], recipe["training_file"])
    assert job["hyperparameters"] == {
        "n_epochs": 3,
        "batch_size": 16,
        "learning_rate_multiplier": 2.0,
        "learning_rate": pytest.approx(4e-5),
    }
    assert job["method"]["supervised"]["hyperparameters"] == job["hyperparameters"]
    assert job["metadata"] == recipe["metadata"]


def test_hyperparameters_where_newer_clients_put_them(client: TestClient, recipe: dict[str, Any]) -> None:
    chosen = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"}
    recipe["method"] = {"type": "supervised", "supervised": {"hyperparameters": chosen}}

    shown = client.post(PATH, json=recipe).json()["hyperparameters"]

    assert (shown["n_epochs"], shown["batch_size"], shown["learning_rate_multiplier"]) == (2, 4, None)


def test_nothing_says_what_to_fuse(client: TestClient, corpus: str) -> None:
    for body in ({"model": "gpt-4o-mini", "training_file": corpus}, {"training_file": corpus}, {}):
        problem = refused(client, body, code="spec_missing")

        for way in ("extra_body", "fusion-spec", "fusion:<recipe>@<version>"):
            assert way in problem["hint"]
    assert problem["error"]["param"] == "/fusion"


def test_two_specs_are_one_too_many(client: TestClient, recipe: dict[str, Any]) -> None:
    spec_file = upload(client, json.dumps(given.spec_data()).encode(), "spec.yaml", "fusion-spec")
    bodies = [
        ({**recipe, "fusion": given.spec_data()}, ["/fusion", "/model"]),
        ({**recipe, "training_file": spec_file}, ["/model", "/training_file"]),
        ({"training_file": spec_file, "fusion": given.spec_data()}, ["/fusion", "/training_file"]),
    ]
    for body, pointers in bodies:
        problem = refused(client, body, code="spec_ambiguous")

        assert [item["pointer"] for item in problem["errors"]] == pointers


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"model": "org/other"}, "/model", "spec_ambiguous"),
        ({"training_file": "file-06f3k9x2q4v8t1m7c5b0z6n3ha"}, "/training_file", "spec_ambiguous"),
        ({"validation_file": "file-1"}, "/validation_file", "not_supported"),
        ({"integrations": [{"type": "wandb"}]}, "/integrations", "not_supported"),
        ({"method": {"type": "dpo"}}, "/method/type", "not_supported"),
        ({"metadata": {"fusion.target": "x"}}, "/metadata/fusion.target", "not_supported"),
        ({"suffix": "Not A Name"}, "/suffix", "spec_invalid"),
        ({"seed": -1}, "/seed", "spec_invalid"),
        ({"hyperparameters": {"n_epochs": 0}}, "/hyperparameters/n_epochs", "invalid_request"),
        ({"hyperparameters": {"n_epochs": "many"}}, "/hyperparameters/n_epochs", "invalid_request"),
        ({"fusion": given.spec_data(colour=1)}, "/fusion/colour", "spec_invalid"),
        ({"fusion": given.spec_data(name="\x00")}, "/fusion/name", "spec_invalid"),
        ({"fusion": given.spec_data(sources=[])}, "/fusion/sources", "spec_invalid"),
        ({"metadata": {"k": "v" * 513}}, "/metadata/k", "invalid_request"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, change: dict[str, Any], pointer: str, code: str) -> None:
    problem = refused(client, {"fusion": given.spec_data(), **change}, code=code)

    assert [item["pointer"] for item in problem["errors"]] == [pointer], problem
    assert problem["error"]["param"] == pointer


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"model": "fusion:nothing@1"}, "/model", "recipe_not_found"),
        ({"training_file": None}, "/training_file", "parameter_missing"),
        ({"training_file": "corpus.jsonl"}, "/training_file", "spec_invalid"),
        ({"training_file": "file-06f3k9x2q4v8t1m7c5b0z6n3ha"}, "/training_file", "file_not_found"),
        ({"metadata": {}}, "/metadata/fusion.target", "parameter_missing"),
        ({"metadata": {"fusion.tarket": "x"}}, "/metadata/fusion.tarket", "parameter_unknown"),
        ({"metadata": {"fusion.corpus": "x"}}, "/metadata/fusion.corpus", "spec_ambiguous"),
        ({"metadata": {"fusion.max_steps": "many"}}, "/metadata/fusion.max_steps", "spec_invalid"),
        ({"metadata": {"fusion.seed": "1"}, "seed": 2}, "/seed", "spec_ambiguous"),
        ({"metadata": {"fusion.target": "model-0"}}, "/metadata/fusion.target", "model_not_found"),
    ],
)
def test_a_wrong_parameter_of_a_recipe_is_named(
    client: TestClient, recipe: dict[str, Any], change: dict[str, Any], pointer: str, code: str
) -> None:
    metadata = change.get("metadata")
    if metadata:
        change = {**change, "metadata": {**recipe["metadata"], **metadata}}

    problem = refused(client, {**recipe, **change}, code=code)

    assert problem["errors"][0]["pointer"] == pointer, problem


def test_a_broken_spec_file_is_blamed_on_the_training_file(client: TestClient) -> None:
    broken = upload(client, json.dumps(given.spec_data(colour=1)).encode(), "spec.yaml", "fusion-spec")

    problem = refused(client, {"training_file": broken}, code="file_not_usable")

    assert problem["error"]["param"] == "/training_file"
    assert "colour" in problem["detail"]


def test_a_spec_file_that_names_what_is_not_there(client: TestClient) -> None:
    spec = given.spec_data(corpus={"files": [{"file_id": "file-06f3k9x2q4v8t1m7c5b0z6n3ha"}]})
    spec_file = upload(client, json.dumps(spec).encode(), "spec.yaml", "fusion-spec")

    problem = refused(client, {"training_file": spec_file}, code="file_not_found")

    assert problem["errors"][0]["pointer"] == "/training_file"
    assert "/corpus/files/0/file_id" in problem["detail"]


def test_a_request_that_is_sent_again_makes_one_job(client: TestClient, api: Api) -> None:
    body = {"fusion": given.spec_data(name="again"), "metadata": {"run": "again"}}
    first = client.post(PATH, json=body)
    again = client.post(PATH, json=body, headers={"x-stainless-retry-count": "1"})
    keyed = [client.post(PATH, json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)]

    assert again.json()["id"] == first.json()["id"] != keyed[0].json()["id"] == keyed[1].json()["id"]
    assert again.headers["idempotent-replayed"] == keyed[1].headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    with read_only(api.engine) as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.name == "again")) == 2


def test_a_new_job_is_named_in_the_audit_log(client: TestClient, api: Api) -> None:
    job_id = client.post(PATH, json={"fusion": given.spec_data()}).json()["id"]

    with read_only(api.engine) as session:
        action = session.scalar(select(AuditEvent.action).where(AuditEvent.object_id == job_id))
    assert action == "create_fine_tuning_job"


def test_every_status_has_a_word_of_openais() -> None:
    assert STATUS.keys() == set(JobStatus)


def upload(client: TestClient, data: bytes, filename: str, purpose: str) -> str:
    answer = client.post("/v1/files", params={"filename": filename, "purpose": purpose}, content=data)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def refused(client: TestClient, body: dict[str, Any], *, code: str) -> dict[str, Any]:
    answer = client.post(PATH, json=body)
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (422, code), answer.text
    assert problem["error"]["message"] == problem["detail"]
    return problem
