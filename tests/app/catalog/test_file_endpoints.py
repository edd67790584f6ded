"""Uploads over HTTP, as forms and as bare bytes, friendly and hostile."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from app.catalog.expiry import drop_expired_files
from app.catalog.files import fetch_file
from app.db.base import db_time
from app.db.models import File, Job
from app.db.session import transaction
from app.storage.store import blob_key
from fusion.errors import InfrastructureError
from tests.support.api import Api, make_api

DATA = b'{"text": "hello"}\n{"text": "world"}\n'
RECORD = b'{"text": "once"}\n'
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["file", "memory"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Api:
    url = "memory://" if request.param == "memory" else ""
    return make_api(tmp_path, storage_url=url, max_upload_bytes=4 << 20, max_request_bytes=1000)


def _post_form(
    api: Api, name: str = "corpus.jsonl", data: bytes = DATA, *, fields: dict[str, str] | None = None
) -> httpx2.Response:
    return api.client.post("/v1/files", files={"file": (name, data)}, data=fields, headers=api.headers)


def _upload(api: Api, name: str = "corpus.jsonl", data: bytes = DATA) -> dict[str, Any]:
    answer = _post_form(api, name, data)
    assert answer.status_code == 201, answer.text
    file: dict[str, Any] = answer.json()
    return file


def _leftovers(api: Api) -> list[Path]:
    return list((api.settings.data_dir / "uploads").iterdir())


def test_a_form_in_openai_shape(api: Api) -> None:
    file = _post_form(api, fields={"purpose": "corpus"}).json()

    assert (file["object"], file["purpose"], file["status"]) == ("file", "corpus", "processed")
    assert (file["bytes"], file["filename"], file["sha256"]) == (len(DATA), "corpus.jsonl", DIGEST)
    assert file["id"].startswith("file-")
    assert file["error"] is None
    assert isinstance(file["created_at"], int)
    assert _leftovers(api) == []


def test_the_body_itself(api: Api) -> None:
    answer = api.client.post("/v1/files?filename=corpus.jsonl", content=DATA, headers=api.headers)

    assert answer.status_code == 201
    assert answer.json()["sha256"] == DIGEST
    assert _leftovers(api) == []


def test_bytes_come_back_as_they_were(api: Api) -> None:
    file = _upload(api, "Zürich 1.jsonl")

    answer = api.client.get(f"/v1/files/{file['id']}/content", headers=api.headers)

    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert "filename*=UTF-8''Z%C3%BCrich%201.jsonl" in answer.headers["content-disposition"]
    part = api.client.get(f"/v1/files/{file['id']}/content", headers=api.headers | {"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, DATA[2:6])


def test_a_broken_line_is_reported_at_once(api: Api) -> None:
    file = _upload(api, data=DATA + b"{broken\n")

    assert file["status"] == "error"
    assert file["error"]["line"] == 3
    assert file["error"]["code"] == "corpus_broken_line"
    assert file["error"]["hint"]
    assert "line 3" in file["status_details"]
    assert file.pop("duplicate_of") is None
    assert api.client.get(f"/v1/files/{file['id']}", headers=api.headers).json() == file


def test_a_file_larger_than_the_limit_is_refused_while_it_arrives(api: Api) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 18
            yield b"x" * (1 << 18)

    answer = api.client.post("/v1/files?filename=a.txt", content=endless(), headers=api.headers)

    assert answer.status_code == 413
    assert answer.json()["code"] == "file_too_large"
    assert _leftovers(api) == []


def test_the_limit_counts_the_file_and_not_the_form(api: Api) -> None:
    limit = api.settings.max_upload_bytes

    assert _post_form(api, "a.txt", b"x" * limit).status_code == 201
    assert _post_form(api, "a.txt", b"x" * (limit + 1)).status_code == 413
    assert _leftovers(api) == []


def test_an_upload_without_a_key_is_refused_before_it_is_read(api: Api) -> None:
    answer = api.client.post("/v1/files?filename=a.txt", content=b"x" * 100)

    assert answer.status_code == 401
    assert not (api.settings.data_dir / "uploads").exists()


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "a\\..\\b", "..", "."])
def test_hostile_file_names_are_refused(api: Api, name: str) -> None:
    quoted = name.replace("\\", "\\\\")
    part = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\nx\r\n--b--'
    headers = api.headers | {"Content-Type": "multipart/form-data; boundary=b"}

    in_form = api.client.post("/v1/files", content=part.encode(), headers=headers)
    in_query = api.client.post("/v1/files", params={"filename": name}, content=b"x", headers=api.headers)

    for answer in (in_form, in_query):
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "filename_invalid"
    assert _leftovers(api) == []


def test_a_nul_in_the_name_is_refused(api: Api) -> None:
    answer = api.client.post("/v1/files?filename=a%00b.jsonl", content=DATA, headers=api.headers)

    assert answer.json()["code"] == "filename_invalid"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"nonsense", "multipart/form-data; boundary=b"),
        (b"x", "multipart/form-data"),
        (b"--b--\r\n", "multipart/form-data; boundary=b"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="doc"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 9999 + b"\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' * 20 + b"--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_broken_forms_are_400(api: Api, body: bytes, content_type: str) -> None:
    answer = api.client.post("/v1/files", content=body, headers=api.headers | {"Content-Type": content_type})

    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "upload_malformed"
    assert _leftovers(api) == []


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"purpose": "assistants"}, "/purpose"),
        ({"colour": "red"}, "/colour"),
        ({"expires_after[anchor]": "last_used"}, "/expires_after[anchor]"),
        ({"expires_after[anchor]": "created_at"}, "/expires_after[seconds]"),
        ({"expires_after[seconds]": "3599"}, "/expires_after[seconds]"),
        ({"expires_after[seconds]": "2592001"}, "/expires_after[seconds]"),
        ({"expires_after[seconds]": "-1"}, "/expires_after[seconds]"),
        ({"expires_after[seconds]": "soon"}, "/expires_after[seconds]"),
    ],
)
def test_wrong_fields_are_named(api: Api, fields: dict[str, str], pointer: str) -> None:
    answer = _post_form(api, fields=fields)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_bare_body_needs_a_name(api: Api) -> None:
    answer = api.client.post("/v1/files", content=DATA, headers=api.headers)

    assert answer.json()["code"] == "filename_missing"


def test_a_second_copy_is_named_as_one(api: Api) -> None:
    first, second, third = (_upload(api, name) for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    elsewhere = api.client.post(
        "/v1/files?filename=a.jsonl", content=DATA, headers=api.key(project="other")
    ).json()

    assert [file["duplicate_of"] for file in (first, second, third)] == [None, first["id"], first["id"]]
    assert elsewhere["duplicate_of"] is None
    same = api.client.get(f"/v1/files?sha256={DIGEST}&order=asc", headers=api.headers).json()["data"]
    assert [file["id"] for file in same] == [first["id"], second["id"], third["id"]]
    assert api.client.get(f"/v1/files?sha256={'0' * 64}", headers=api.headers).json()["data"] == []


def test_openais_word_for_a_corpus_is_known(api: Api) -> None:
    file = _post_form(api, data=DATA + b"{broken\n", fields={"purpose": "fine-tune"}).json()

    assert (file["purpose"], file["error"]["line"]) == ("fine-tune", 3)


def test_an_expired_file_is_gone_but_for_jobs_that_began_before(api: Api, tmp_path: Path) -> None:
    file = _post_form(
        api, fields={"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    ).json()
    forever = _upload(api, "forever.jsonl", RECORD)
    query = "/v1/files?filename=b.txt&expires_after[seconds]=7200"
    other = api.client.post(query, content=b"text", headers=api.headers).json()
    assert file["expires_at"] - file["created_at"] == 3600
    assert other["expires_at"] - other["created_at"] == 7200
    assert forever["expires_at"] is None
    step = api.running_step(spec={"corpus": {"files": [{"file_id": file["id"]}]}})
    key = blob_key(project_id=api.principal.project_id, sha256=DIGEST)
    with transaction(api.engine) as session:
        session.execute(update(File).where(File.id == file["id"]).values(expires_at=db_time(-1)))

    assert api.client.get(f"/v1/files/{file['id']}", headers=api.headers).status_code == 404
    listed = api.client.get("/v1/files", headers=api.headers).json()["data"]
    assert {item["id"] for item in listed} == {forever["id"], other["id"]}
    assert drop_expired_files(api.engine, api.store).num == 0
    fetch_file(api.engine, api.store, file["id"], project_id=step.project_id, into=tmp_path / "in")

    with transaction(api.engine) as session:
        session.execute(update(Job).values(status="failed"))
    assert drop_expired_files(api.engine, api.store, dry_run=True).num_bytes == len(DATA)
    assert drop_expired_files(api.engine, api.store).num == 1
    assert api.store.size(key) is None


def test_as_many_as_openais_clients_ask_for_may_be_listed(api: Api) -> None:
    assert api.client.get("/v1/files?limit=10000", headers=api.headers).status_code == 200
    assert api.client.get("/v1/files?limit=10001", headers=api.headers).status_code == 422


def test_equal_bytes_are_stored_once_and_go_with_the_last_file(api: Api) -> None:
    first, second = _upload(api), _upload(api, "again.jsonl")
    key = blob_key(project_id=api.principal.project_id, sha256=DIGEST)

    deleted = api.client.delete(f"/v1/files/{first['id']}", headers=api.headers)

    assert deleted.json() == {"id": first["id"], "object": "file", "deleted": True}
    assert api.client.get(f"/v1/files/{first['id']}", headers=api.headers).status_code == 404
    assert api.store.size(key) == len(DATA)
    api.client.delete(f"/v1/files/{second['id']}", headers=api.headers)
    assert api.store.size(key) is None


def test_a_file_that_a_live_job_uses_stays(api: Api) -> None:
    file = _upload(api)
    step = api.running_step(spec={"corpus": {"files": [{"file_id": file["id"]}]}})

    refused = api.client.delete(f"/v1/files/{file['id']}", headers=api.headers)

    assert refused.status_code == 409
    assert step.job_id in refused.json()["detail"]
    with transaction(api.engine) as session:
        session.execute(update(Job).values(status="failed"))
    assert api.client.delete(f"/v1/files/{file['id']}", headers=api.headers).status_code == 200


def test_lists_are_filtered_by_purpose_and_project(api: Api) -> None:
    file = _upload(api)
    stranger = api.key(project="other")

    assert [item["id"] for item in api.client.get("/v1/files", headers=api.headers).json()["data"]] == [
        file["id"]
    ]
    assert api.client.get("/v1/files?purpose=spec", headers=api.headers).json()["data"] == []
    assert api.client.get("/v1/files", headers=stranger).json()["data"] == []
    for path in ("", "/content"):
        assert api.client.get(f"/v1/files/{file['id']}{path}", headers=stranger).status_code == 404
    assert api.client.delete(f"/v1/files/{file['id']}", headers=stranger).status_code == 404


def test_a_worker_fetches_a_file_under_its_name(api: Api, tmp_path: Path) -> None:
    file = _upload(api, "my corpus.jsonl")
    project_id = api.principal.project_id

    path = fetch_file(api.engine, api.store, file["id"], project_id=project_id, into=tmp_path / "in")

    assert (path.name, path.read_bytes()) == ("my corpus.jsonl", DATA)
    with pytest.raises(InfrastructureError, match="no file"):
        fetch_file(api.engine, api.store, file["id"], project_id="proj-other", into=tmp_path / "in")


def test_the_form_may_arrive_in_any_pieces(api: Api) -> None:
    request = httpx2.Request(
        "POST", "http://x", files={"file": ("a.jsonl", io.BytesIO(DATA))}, data={"purpose": "corpus"}
    )
    body, content_type = request.read(), request.headers["content-type"]

    answer = api.client.post(
        "/v1/files",
        content=(body[index : index + 1] for index in range(len(body))),
        headers=api.headers | {"Content-Type": content_type},
    )

    assert answer.status_code == 201, answer.text
    assert answer.json()["sha256"] == DIGEST
