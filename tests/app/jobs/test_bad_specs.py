"""Whatever is sent for a spec, the answer is a problem that names the place and the way out, never a 500."""

from pathlib import Path

import pytest

from app.db.models import Model
from app.db.session import transaction
from tests.app.jobs import builders as given
from tests.app.jobs.bad_specs import BadSpec, bad_specs
from tests.support.api import Api, make_api

PATHS = ("/v1/jobs", "/v1/jobs?dry_run=true", "/v1/jobs/validate", "/v1/jobs/estimate")
MAX_PROBLEM_BYTES = 20_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return make_api(tmp_path_factory.mktemp("api"), allowed_roots=(tmp_path_factory.mktemp("models"),))


@pytest.fixture(scope="module")
def corpus(api: Api) -> list[BadSpec]:
    allowed = api.settings.allowed_roots[0]
    (allowed / "model").mkdir()
    (allowed / "text.jsonl").write_text("{}")
    stranger = given.make_project(api.engine, "stranger")
    headers = api.key(project="another stranger")
    uploaded = api.client.post("/v1/files?filename=a.txt", content=b"text", headers=headers).json()
    with transaction(api.engine) as session:
        model = Model(project_id=stranger, name="theirs", origin={"hub": "a/b", "revision": given.REVISION})
        session.add(model)
    return bad_specs(allowed=str(allowed), foreign_file=uploaded["id"], foreign_model=model.id)


def test_there_are_many_of_many_kinds(corpus: list[BadSpec]) -> None:
    assert len(corpus) >= 100
    assert len({bad.name for bad in corpus}) == len(corpus)


@pytest.mark.parametrize("path", PATHS)
def test_every_bad_spec_gets_the_answer_that_helps(api: Api, corpus: list[BadSpec], path: str) -> None:
    wrong = [complaint for bad in corpus for complaint in complaints(api, path, bad)]

    assert wrong == []
    assert api.client.get("/v1/jobs", headers=api.headers).json()["data"] == []


def complaints(api: Api, path: str, bad: BadSpec) -> list[str]:
    """What is wrong with the answer."""
    headers = {**api.headers, "Content-Type": bad.media_type}
    answer = api.client.post(path, content=bad.body, headers=headers)
    if answer.headers["content-type"] != "application/problem+json":
        return [f"{bad.name}: {answer.status_code} {answer.text[:200]}"]
    problem = answer.json()
    fields = {field["pointer"]: field["code"] for field in problem["errors"]}
    found = []
    if (problem["status"], answer.status_code, problem["code"]) != (bad.status, bad.status, bad.code):
        found.append(f"{bad.name}: {answer.status_code} {problem['code']}: {problem['detail'][:200]}")
    if bad.pointer not in fields or bad.field_code not in (None, fields[bad.pointer]):
        found.append(f"{bad.name}: {bad.pointer[:80]!r} {bad.field_code} is not among {str(fields)[:300]}")
    if not problem["hint"] or not all(field["detail"] for field in problem["errors"]):
        found.append(f"{bad.name}: no hint, or a field without a word: {str(problem)[:300]}")
    if "Traceback" in answer.text or len(answer.content) > MAX_PROBLEM_BYTES:
        found.append(f"{bad.name}: {len(answer.content)} bytes: {answer.text[:200]}")
    return found


def test_a_good_spec_is_still_good(api: Api, tmp_path: Path) -> None:
    for path in PATHS:
        answer = api.client.post(
            path, json=given.spec_data(name=tmp_path.name[:8].lower()), headers=api.headers
        )

        assert answer.is_success, answer.text
