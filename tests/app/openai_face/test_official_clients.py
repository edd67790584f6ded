"""OpenAI's official client in three major versions, each in an environment of its own, against a server.

Which calls are seen to work is written down in docs/openai.md.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from app.accounts import service as accounts
from app.accounts.scopes import Scope
from app.accounts.secret_files import load_pepper
from app.db.models import Project
from app.db.session import create_engine, transaction
from tests.app.jobs import builders as given
from tests.app.openai_face.finished_jobs import NUM_TOKENS, run_to_end
from tests.support.api_process import ApiProcess, running_api
from tests.support.environments import environment

VERSIONS = ("1.109.1", "2.54.0", "3.54.0")
ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "client_script.py"
PAGE = ROOT / "docs" / "openai.md"
CALLS = re.compile(r"^\| `(?P<call>[\w.]+)` \|(?P<seen>.*)\|$", re.MULTILINE)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a client's script told."""

    calls: list[str]
    seen: dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("face")
    (folder / "failpoints").mkdir()
    with running_api(folder, environment={"FAILPOINTS_DIR": str(folder / "failpoints")}) as api:
        yield api


@pytest.fixture(scope="module")
def engine(server: ApiProcess) -> Iterator[Engine]:
    engine = create_engine(server.settings.database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module", params=VERSIONS)
def told(
    request: pytest.FixtureRequest,
    server: ApiProcess,
    engine: Engine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    """One run of the script, in a project of its own."""
    version: str = request.param
    folder = tmp_path_factory.mktemp("client")
    key = new_project(server, engine, name=f"client-{version}")
    models = [register_model(server, key, name=name) for name in ("target", "source")]
    (folder / "models.json").write_text(json.dumps(models))
    (folder / "spec.json").write_text(json.dumps(given.spec_data(name="in-the-body")))
    words = [environment(f"openai=={version}"), "-W", "error::DeprecationWarning:openai", SCRIPT]
    with subprocess.Popen(
        [*map(str, words), f"{server.url}/v1", key, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        return converse(process, server, engine)


def converse(process: subprocess.Popen[str], server: ApiProcess, engine: Engine) -> Told:
    """Do what the script asks for, until it has told everything."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        match line.split():
            case ["run", job_id]:
                run_to_end(engine, job_id)
            case ["slow"]:
                arm = server.log.parent / "failpoints" / "request.committed"
                arm.write_text("sleep 6", encoding="ascii")
            case _:
                return Told(**json.loads(line))
        process.stdin.write("done\n")
        process.stdin.flush()
    raise AssertionError(f"the client's script ended early:\n{process.stderr.read()}")


def test_files(told: Told) -> None:
    seen = told.seen
    assert {name: seen["corpus"][name] for name in ("object", "filename", "purpose", "status")} == {
        "object": "file",
        "filename": "corpus.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
    }
    assert seen["corpus"]["expires_at"] == seen["corpus"]["created_at"] + 7200
    for fact in ("retrieved", "listed files", "listed specs", "content", "streamed", "deleted file"):
        assert seen[fact] is True, fact


def test_uploads(told: Told) -> None:
    upload = told.seen["upload"]
    assert (upload["object"], upload["status"], upload["filename"]) == ("upload", "pending", "parts.jsonl")
    assert told.seen["completed"] == ["completed", True]
    assert told.seen["chunked"] == ["completed", "chunked.jsonl"]
    assert told.seen["cancelled upload"] == "cancelled"
    assert told.seen["wrong md5"] == "digest_differs"


def test_jobs(told: Told) -> None:
    seen = told.seen
    job, recipe = seen["job"], seen["recipe"]
    assert (job["object"], job["status"], job["metadata"]) == ("fine_tuning.job", "queued", {"way": "body"})
    assert all(job[name] is None for name in ("error", "fine_tuned_model", "finished_at", "trained_tokens"))
    assert job["result_files"] == []
    assert (recipe["model"], recipe["seed"]) == ("fusion:small-cpu@1", 3)
    assert recipe["hyperparameters"]["n_epochs"] == 2
    assert recipe["hyperparameters"]["learning_rate_multiplier"] == 0.5
    for fact in ("listed jobs", "listed by metadata", "listed without metadata"):
        assert seen[fact] is True, fact
    assert [seen[name] for name in ("paused", "resumed", "cancelled")] == ["paused", "queued", "cancelled"]


def test_a_finished_job(told: Told) -> None:
    seen, job = told.seen, told.seen["finished"]
    assert (job["status"], job["trained_tokens"], job["error"]) == ("succeeded", NUM_TOKENS, None)
    assert seen["events"] == {
        "kinds": ["message", "metrics"],
        "ids differ": True,
        "first": ["info", "job is succeeded"],
        "last": "job submitted",
        "losses": [2.0, 3.0],
    }
    assert seen["checkpoints"] == [[2, 3.0]]
    assert seen["curve"] == ["step,train_loss,grad_norm", "2,3.0,1.5"]
    assert seen["model is listed"] is True
    assert seen["model"]["id"] == job["fine_tuned_model"]
    assert {"id", "object", "created", "owned_by"} <= seen["model"].keys()
    assert seen["deleted model"] is True


def test_errors(told: Told) -> None:
    assert told.seen["conflict"] == ["job_finished", 1]
    assert told.seen["not found"] == ["job_not_found", "not_found_error"]
    assert told.seen["unprocessable"] == ["spec_missing", "/model", True, True]
    assert told.seen["unauthorised"] == "invalid_api_key"


def test_a_late_answer_makes_one_job(told: Told) -> None:
    assert told.seen["again"] == {"replayed": "true", "retries": True, "request id": True, "jobs": 1}


def test_the_asynchronous_client(told: Told) -> None:
    assert told.seen["async"] == {
        "listed": [True, 5],
        "content": True,
        "events": ["job submitted"],
        "cancelled": "cancelled",
    }


def test_the_page_lists_the_calls_that_work(told: Told) -> None:
    """Every call of the script, for every version, and no other."""
    text = PAGE.read_text(encoding="utf-8")
    column = [f"`{version}`" for version in VERSIONS].index(f"`{told.seen['version']}`")
    written = {row["call"]: "yes" in row["seen"].split("|")[column] for row in CALLS.finditer(text)}
    assert written == dict.fromkeys(told.calls, True), "write the table of docs/openai.md anew"
    assert f"| {' | '.join(VERSIONS)} |" in text


def new_project(server: ApiProcess, engine: Engine, *, name: str) -> str:
    """The key of a new project."""
    with transaction(engine) as session:
        project = Project(name=name)
        session.add(project)
        session.flush()
        _, text = accounts.create_key(
            session,
            project_id=project.id,
            name=name,
            scopes=[Scope.READ, Scope.WRITE],
            pepper=load_pepper(server.settings.key_pepper_file),
        )
    return text


def register_model(server: ApiProcess, key: str, *, name: str) -> str:

    body = {"name": name, "ref": {"hub": f"org/{name}", "revision": given.REVISION}}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx2.post(f"{server.url}/v1/models", json=body, headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
