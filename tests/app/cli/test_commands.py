"""Every command speaks to people and to programs, and its exit code says how it went."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.db.migrate import upgrade
from tests.app.cli.conftest import JOB, STEP, Ran, Service

Fusion = Callable[..., Ran]

SPEC = """
api_version: fusion/v1
sources: [{name: code, model: {path: models/code}}]
target: {model: {path: models/target}}
corpus: {files: [{path: corpus.jsonl}]}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_submit_prints_the_id_and_sends_absolute_paths(talking: Fusion, service: Service, spec: Path) -> None:
    service.gives("POST /v1/jobs", JOB, status=201)

    ran = talking("submit", str(spec))

    assert (ran.code, ran.out) == (0, "job-1\n")
    sent = json.loads(service.requests[0][1])
    assert sent["target"]["model"]["path"] == str(spec.parent / "models" / "target")


def test_submit_uploads_the_corpus_where_asked(
    talking: Fusion, service: Service, spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"text": "one"}\n')
    file = {"id": "file-1", "filename": "corpus.jsonl", "bytes": 1, "sha256": "0", "status": "processed"}
    service.gives("POST /v1/files", file, status=201)
    service.gives("POST /v1/jobs", JOB, status=201)

    assert talking("submit", str(spec), "--upload").code == 0

    sent = json.loads(service.requests[1][1])
    assert (sent["corpus"]["files"][0]["file_id"], sent["corpus"]["files"][0]["path"]) == ("file-1", None)
    assert b'{"text": "one"}' in service.requests[0][1]


def test_submit_refuses_a_corpus_that_the_service_cannot_use(
    talking: Fusion, service: Service, spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus.jsonl").write_text("{broken\n")
    details = "line 1 is not JSON"
    file = {"id": "file-1", "filename": "corpus.jsonl", "bytes": 1, "sha256": "0", "status": "error"}
    service.gives("POST /v1/files", {**file, "status_details": details}, status=201)

    ran = talking("submit", str(spec), "--upload")

    assert ran.code == 2
    assert details in ran.err
    assert [route for route, _ in service.requests] == ["POST /v1/files"]


def test_submit_sends_nothing_when_a_corpus_file_is_missing(
    talking: Fusion, service: Service, spec: Path
) -> None:
    ran = talking("submit", str(spec), "--upload")

    assert ran.code == 2
    assert f"path_not_found: /corpus/files/0/path: there is no file {spec.parent}/corpus.jsonl" in ran.err
    assert service.requests == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_id_is_known_when_the_watch_fails(
    talking: Fusion, service: Service, spec: Path, options: list[str]
) -> None:
    service.gives("POST /v1/jobs", JOB, status=201)
    refusal = {
        "detail": "it lacks the scope read",
        "code": "scope_missing",
        "hint": "use another",
    }
    service.gives("GET /v1/jobs/job-1", refusal, status=403)

    ran = talking("submit", str(spec), "--watch", *options)

    assert (ran.code, "hint: use another" in ran.err) == (3, True)
    (line,) = ran.out.splitlines()
    assert (json.loads(line)["job"]["id"] if options else line) == "job-1"


def test_list_shows_a_line_per_job(talking: Fusion, service: Service) -> None:
    service.gives_list("GET /v1/jobs", JOB)

    ran = talking("list")

    assert ran.out.splitlines()[1].split("\t") == [
        "job-1",
        "tiny",
        "succeeded",
        "100%",
        "2023-11-14 22:13:20",
    ]
    assert talking("list", "--json").json[0]["id"] == "job-1"


def test_show_shows_job_steps_and_error(talking: Fusion, service: Service) -> None:
    error = {"code": "corpus_empty", "category": "user", "message": "no text", "hint": "add text"}
    service.has_job(status="failed", error=error)

    ran = talking("show", "job-1")

    assert ran.code == 0
    for text in ("failed", "corpus_empty: no text", "add text", "train.fused"):
        assert text in ran.out
    assert set(talking("show", "job-1", "--json").json) == {"job", "steps", "models"}


def test_show_tells_the_place_in_the_queue_and_the_time_that_is_left(
    talking: Fusion, service: Service
) -> None:
    progress = {"stage": "train", "percent": 10.0, "eta_seconds": 4000, "estimated_finish_at": 1_700_004_000}
    service.has_job(status="queued", status_reason="waiting_for_turn", queue_position=3, progress=progress)
    service.gives_list(
        "GET /v1/jobs/job-1/steps", {**STEP, "status": "queued", "progress": None, "expected_seconds": 90}
    )

    ran = talking("show", "job-1")

    assert "status    queued (waiting for turn, place 3)" in ran.out
    assert "left      1h06m" in ran.out
    assert "finish    2023-11-14 23:20:00" in ran.out
    assert "train.fused\tqueued\t1\t1m30s" in ran.out


FIGURE = {"value": 2.5e9, "low": 1e9, "high": 4e9, "unit": "bytes", "basis": "modelled", "why": "because"}
HOURS = {"value": 1.5, "low": 0.01, "high": 30.0, "unit": "hours", "basis": "default", "why": "assumed"}
NOBODY_KNOWS = {"value": None, "low": None, "high": None, "unit": "tokens", "basis": "default", "why": "?"}


def test_estimate_shows_ranges_and_what_they_rest_on(talking: Fusion, service: Service, spec: Path) -> None:
    sizes = dict.fromkeys(("host_memory", "device_memory", "disk", "stored"), FIGURE)
    found = {"tokens": NOBODY_KNOWS, "hours": HOURS, **sizes, "steps": {"align": HOURS}, "warnings": ["no"]}
    service.gives("POST /v1/jobs/estimate", found)

    ran = talking("estimate", str(spec))
    with_steps = talking("estimate", str(spec), "--steps")
    as_json = talking("estimate", str(spec), "--json")

    assert "host memory\t2.5 GB\t1.0 GB\t4.0 GB\tmodelled\tbecause" in ran.out
    assert "hours\t1h30m\t36s\t30h00m\tdefault\tassumed" in ran.out
    assert "tokens\t?\t?\t?\tdefault\t?" in ran.out
    assert "warning: no" in ran.out
    assert "align" in with_steps.out
    assert "align" not in ran.out
    assert as_json.json == found


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 5), ("cancelled", 6)])
def test_watch_exits_as_the_job_ended(talking: Fusion, service: Service, status: str, code: int) -> None:
    service.has_job(status=status)

    ran = talking("watch", "job-1")

    assert ran.code == code
    assert ran.out.splitlines()[0] == "train.fused started"
    assert status in ran.out


def test_watch_as_json_is_a_document_per_line(talking: Fusion, service: Service) -> None:
    service.has_job()

    ran = talking("watch", "job-1", "--json")

    (line,) = ran.out.splitlines()
    update = json.loads(line)
    assert update["metrics"][0]["values"] == {"loss": 1.5}
    assert update["events"][0]["message"] == "train.fused started"


def test_keys_are_made_listed_and_revoked(talking: Fusion, service: Service) -> None:
    key = {"id": "key-1", "name": "ci", "prefix": "fus_1", "scopes": ["read", "write"]}
    service.gives("POST /v1/api_keys", {**key, "secret": "fus_1_secret"}, status=201)
    service.gives_list("GET /v1/api_keys", key)
    service.gives("POST /v1/api_keys/key-1/rotate", {**key, "id": "key-2", "secret": "fus_2_secret"})
    service.gives("DELETE /v1/api_keys/key-1", {"deleted": True})

    made = talking("key", "create", "ci", "--scope", "read", "--expires-in-days", "2")
    assert made.out == "fus_1_secret\n"
    wanted = {"name": "ci", "scopes": ["read"], "expires_in_seconds": 172_800}
    assert json.loads(service.requests[0][1]) == wanted
    assert "key-1\tci\tfus_1\tread,write" in talking("key", "list").out
    assert talking("key", "rotate", "key-1", "--overlap-hours", "2").out == "fus_2_secret\n"
    assert json.loads(service.requests[-1][1]) == {"overlap_seconds": 7200}
    assert talking("key", "revoke", "key-1").code == 0


def test_validate_needs_no_service(fusion: Fusion, spec: Path) -> None:
    assert "steps: prepare, " in fusion("validate", str(spec)).out
    assert fusion("validate", str(spec), "--json").json["strategy"]["preset"] == "default"


def test_a_wrong_spec_is_explained_with_exit_code_2(fusion: Fusion, spec: Path) -> None:
    spec.write_text(SPEC + "nmae: x\n")

    ran = fusion("validate", str(spec))

    assert ran.code == 2
    assert "/nmae" in ran.err
    assert "hint:" in ran.err


def test_schema_is_json(fusion: Fusion) -> None:
    assert fusion("schema").json["title"] == "FusionSpec"


def test_the_first_key_is_made_beside_the_database(fusion: Fusion, tmp_path: Path) -> None:
    before = fusion("key", "bootstrap", "--data-dir", str(tmp_path))
    upgrade(f"sqlite:///{tmp_path}/fusion.db")
    after = fusion("key", "bootstrap", "--data-dir", str(tmp_path), "--json")

    assert (before.code, "python -m app.db.migrate" in before.err) == (1, True)
    assert after.json == {"admin_key_file": str(tmp_path / "admin.key")}
    assert (tmp_path / "admin.key").read_text().startswith("fus_")


def test_exit_codes_tell_what_was_wrong(talking: Fusion, monkeypatch: pytest.MonkeyPatch) -> None:
    assert talking("show", "job-9").code == 4
    assert talking("show").code == 2
    assert talking("no-such-command").code == 2
    monkeypatch.setenv("FUSION_API_KEY", "bad")
    ran = talking("list")
    assert (ran.code, ran.err) == (3, "error: invalid_api_key: the API key is unknown\n")


def test_wrong_fields_are_named_once(talking: Fusion, service: Service, spec: Path) -> None:
    fields = [{"pointer": pointer, "code": "x", "detail": f"no {pointer}"} for pointer in ("/a", "/b")]
    problem = {"detail": "/a: no /a; /b: no /b", "code": "spec_invalid", "errors": fields}
    service.gives("POST /v1/jobs", problem, status=422)
    several = talking("submit", str(spec))
    service.gives("POST /v1/jobs", {**problem, "detail": "/a: no /a", "errors": fields[:1]}, status=422)
    one = talking("submit", str(spec))

    assert several.err == "error: spec_invalid: 2 fields are wrong\n  /a: no /a\n  /b: no /b\n"
    assert one.err == "error: spec_invalid: /a: no /a\n"


def test_a_download_of_nothing_says_what_was_looked_for(talking: Fusion) -> None:
    ran = talking("download", "nope")

    assert ran.code == 4
    assert "no job, model or artifact nope" in ran.err


def test_a_download_into_a_file_is_refused(talking: Fusion, service: Service, tmp_path: Path) -> None:
    file = {"path": "config.json", "size": 2, "sha256": "0"}
    service.gives("GET /v1/artifacts/art-1", {"id": "art-1", "kind": "model", "files": [file]})
    (tmp_path / "taken").touch()

    for folder in ("taken", "taken/below"):
        ran = talking("download", "art-1", folder)
        assert (ran.code, "folder_unusable: taken" in ran.err, "hint:" in ran.err) == (2, True, True)


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak"])
def test_a_malformed_key_is_not_sent(talking: Fusion, service: Service, key: str) -> None:
    ran = talking("list", "--api-key", key)

    assert (ran.code, "invalid_api_key: the API key is malformed" in ran.err) == (3, True)
    assert service.requests == []
    assert key not in ran.err


def test_paths_that_cannot_be_used_are_named(fusion: Fusion, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    upgrade(f"sqlite:///{tmp_path}/fusion.db")

    serving = fusion("serve", "--data-dir", "taken/data")
    without_root = fusion("serve", "--allowed-root", "absent")
    key_file = fusion("key", "bootstrap", "--data-dir", str(tmp_path), "--file", "taken/key")

    assert (serving.code, "data_dir_unusable" in serving.err) == (2, True)
    assert (without_root.code, "absent" in without_root.err) == (2, True)
    assert (key_file.code, "key_file_unusable: taken" in key_file.err) == (2, True)
    assert not (tmp_path / "data").exists()


def test_a_wrong_setting_is_named(fusion: Fusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_LEASE_SECONDS", "soon")

    for command in (["serve"], ["key", "bootstrap"]):
        ran = fusion(*command)
        assert (ran.code, "settings_invalid: FUSION_LEASE_SECONDS: " in ran.err) == (2, True)


def test_without_a_service_the_way_out_is_named(fusion: Fusion) -> None:
    ran = fusion("list")

    assert ran.code == 2
    assert "fusion serve" in ran.err


def test_without_a_key_the_way_out_is_named(fusion: Fusion, service: Service) -> None:
    ran = fusion("list", "--url", service.url)

    assert ran.code == 3
    assert "fusion key create" in ran.err


def test_the_embedded_service_is_found_by_its_data_folder(
    fusion: Fusion, service: Service, tmp_path: Path
) -> None:
    service.gives_list("GET /v1/jobs", JOB)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "server.json").write_text(json.dumps({"url": service.url}))
    (tmp_path / "data" / "admin.key").write_text("good\n")

    assert "job-1" in fusion("list").out


def test_a_service_that_is_down_is_an_error_not_a_traceback(
    fusion: Fusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)

    ran = fusion("list", "--url", "http://127.0.0.1:1", "--api-key", "good")

    assert ran.code == 1
    assert "no answer from http://127.0.0.1:1" in ran.err


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "sqlalchemy", "celery", "fastapi", "httpx2", "pydantic")
    code = f"""
import sys
from app.cli import app
app(["--help"], standalone_mode=False)
print(sorted({{*{heavy}}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
