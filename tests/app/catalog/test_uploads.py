"""Uploads in parts: continued, verified, completed once, and forgotten when nobody continues them."""

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select, update

from app.artifacts.garbage import sweep_blobs
from app.catalog.expiry import drop_abandoned_uploads
from app.db.base import db_time
from app.db.models import File, Upload, UploadPart
from app.db.session import read_only, transaction
from app.operations.backup import back_up
from app.settings import Settings
from app.storage.store import BLOBS, ObjectStore, blob_key
from tests.support.api import Api, make_api

LINES = [b'{"text": "%d"}\n' % number for number in range(9000)]
DATA = b"".join(LINES)
PARTS = [DATA[start : start + 50_000] for start in range(0, len(DATA), 50_000)]
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, make_database: Callable[[str], str]) -> str:
    """SQLite, except for tests `on_both` databases."""
    return make_database(getattr(request, "param", "sqlite"))


on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_part_bytes": 100_000, "max_upload_bytes": 1_000_000})


@pytest.fixture
def store(client: TestClient) -> ObjectStore:
    store: ObjectStore = client.app.state.store  # type: ignore[attr-defined]
    return store


def begin(client: TestClient, **changes: Any) -> dict[str, Any]:
    body = {"filename": "corpus.jsonl", "purpose": "corpus", "bytes": len(DATA), **changes}
    answer = client.post("/v1/uploads", json=body)
    assert answer.status_code == 201, answer.text
    upload: dict[str, Any] = answer.json()
    return upload


def send(client: TestClient, upload: dict[str, Any], data: bytes) -> httpx2.Response:
    return client.post(f"/v1/uploads/{upload['id']}/parts", files={"data": ("blob", data)})


def send_all(client: TestClient, upload: dict[str, Any]) -> list[str]:
    return [send(client, upload, part).json()["id"] for part in PARTS]


def complete(client: TestClient, upload: dict[str, Any], part_ids: list[str], **more: Any) -> httpx2.Response:
    return client.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": part_ids, **more})


def blobs(store: ObjectStore) -> list[str]:
    return [item.key for page in store.list_objects(BLOBS) for item in page]


@on_both
def test_parts_become_a_file(client: TestClient, store: ObjectStore) -> None:
    upload = begin(client, mime_type="text/jsonl")
    assert (upload["object"], upload["status"], upload["bytes"]) == ("upload", "pending", len(DATA))
    assert upload["expires_at"] > upload["created_at"]

    part_ids = send_all(client, upload)
    done = complete(client, upload, part_ids, md5=MD5, sha256=SHA256).json()

    assert (done["status"], done["file"]["status"]) == ("completed", "processed")
    assert (done["file"]["sha256"], done["file"]["num_records"]) == (SHA256, len(LINES))
    assert done["file_id"] == done["file"]["id"]
    assert client.get(f"/v1/files/{done['file_id']}/content").content == DATA
    # The parts are gone, and nothing of them is left on the disk.
    assert len(blobs(store)) == 1


@on_both
def test_parts_come_in_any_order_and_at_once(client: TestClient) -> None:
    upload = begin(client)
    numbers = list(range(len(PARTS)))
    random.Random(0).shuffle(numbers)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: send(client, upload, PARTS[number]), numbers))

    ids = {number: answer.json()["id"] for number, answer in zip(numbers, answers, strict=True)}
    done = complete(client, upload, [ids[number] for number in sorted(ids)], md5=MD5)
    assert done.json()["file"]["sha256"] == SHA256


def test_whoever_continues_sees_what_is_there(client: TestClient) -> None:
    upload = begin(client, sha256=SHA256)
    sent = send(client, upload, PARTS[1]).json()
    assert (sent["object"], sent["upload_id"], sent["bytes"]) == ("upload.part", upload["id"], 50_000)

    (found,) = client.get(f"/v1/uploads?status=pending&sha256={SHA256}").json()["data"]
    there = client.get(f"/v1/uploads/{found['id']}").json()

    assert there["parts"] == [sent]
    assert sent["sha256"] == hashlib.sha256(PARTS[1]).hexdigest()
    assert client.get("/v1/uploads?status=completed").json()["data"] == []
    assert client.get(f"/v1/uploads?sha256={'0' * 64}").json()["data"] == []


def test_a_part_that_is_sent_again_is_the_same_part(client: TestClient) -> None:
    upload = begin(client, bytes=150_000)

    first, again = (send(client, upload, bytes(50_000)).json() for _ in range(2))
    done = complete(client, upload, [first["id"]] * 3)

    assert first == again
    assert done.json()["file"]["sha256"] == hashlib.sha256(bytes(150_000)).hexdigest()


def test_the_body_may_be_the_part_itself(client: TestClient) -> None:
    upload = begin(client, bytes=len(PARTS[0]))

    part = client.post(f"/v1/uploads/{upload['id']}/parts", content=PARTS[0]).json()

    assert part["sha256"] == hashlib.sha256(PARTS[0]).hexdigest()


@on_both
def test_completing_again_gives_the_same_file(client: TestClient, engine: Engine) -> None:
    upload = begin(client)
    part_ids = send_all(client, upload)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: complete(client, upload, part_ids), range(3)))
    answers.append(complete(client, upload, part_ids))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["file_id"] for answer in answers}) == 1
    with read_only(engine) as session:
        assert len(session.scalars(select(File)).all()) == 1
        assert session.scalars(select(UploadPart)).all() == []
    client.delete(f"/v1/files/{answers[0].json()['file_id']}")
    assert complete(client, upload, part_ids).json()["file"] is None


@pytest.mark.parametrize(
    ("promise", "pointer", "code"),
    [
        ({"part_ids": [0, 1]}, "/part_ids", "upload_size_differs"),
        ({"part_ids": [0, 1, 2, 2]}, "/part_ids", "digest_differs"),
        ({"part_ids": [1, 0, 2]}, "/part_ids", "digest_differs"),
        ({"part_ids": [0, 1, 2], "md5": "0" * 32}, "/md5", "digest_differs"),
        ({"part_ids": [0, 1, 2], "sha256": "0" * 64}, "/sha256", "digest_differs"),
        ({"part_ids": [0, "part-nobody", 2]}, "/part_ids/1", "part_not_found"),
        ({"part_ids": []}, "/part_ids", "too_short"),
        ({"part_ids": [0, 1, 2], "md5": "x"}, "/md5", "string_pattern_mismatch"),
    ],
)
def test_what_does_not_fit_is_named_and_can_be_mended(
    client: TestClient, promise: dict[str, Any], pointer: str, code: str
) -> None:
    data = DATA[:110_000]
    upload = begin(client, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    pieces = [data[:50_000], data[50_000:100_000], data[100_000:]]
    if promise["part_ids"] == [0, 1, 2, 2]:
        pieces = [data[:50_000], data[50_000:90_000], data[100_000:]]
    ids = [send(client, upload, piece).json()["id"] for piece in pieces]
    named = [ids[item] if isinstance(item, int) else item for item in promise["part_ids"]]

    refused = complete(client, upload, named, **{key: promise[key] for key in promise if key != "part_ids"})

    assert refused.status_code == 422, refused.text
    assert [refused.json()["errors"][0][name] for name in ("pointer", "code")] == [pointer, code]
    assert client.get(f"/v1/uploads/{upload['id']}").json()["status"] == "pending"


@pytest.mark.parametrize(
    ("changes", "status", "where"),
    [
        ({"bytes": 0}, 422, "/bytes"),
        ({"bytes": 1_000_001}, 413, None),
        ({"filename": "../x"}, 422, "/filename"),
        ({"purpose": "assistants"}, 422, "/purpose"),
        ({"sha256": "abc"}, 422, "/sha256"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, 422, "/expires_after/seconds"),
        ({"colour": "red"}, 422, "/colour"),
    ],
)
def test_what_cannot_come_is_refused_at_once(
    client: TestClient, changes: dict[str, Any], status: int, where: str | None
) -> None:
    body = {"filename": "a.jsonl", "purpose": "corpus", "bytes": 10, **changes}

    refused = client.post("/v1/uploads", json=body)

    assert refused.status_code == status
    assert where is None or refused.json()["errors"][0]["pointer"] == where


def test_parts_are_limited_each_and_together(client: TestClient, store: ObjectStore) -> None:
    upload = begin(client, bytes=150_000)

    assert send(client, upload, b"").status_code == 422
    assert send(client, upload, bytes(100_001)).status_code == 413
    assert send(client, upload, bytes(100_000)).status_code == 201
    beyond = send(client, upload, b"x" * 50_001)

    assert (beyond.status_code, beyond.json()["code"]) == (413, "upload_too_large")
    assert len(client.get(f"/v1/uploads/{upload['id']}").json()["parts"]) == 1


def test_the_file_expires_as_was_wished_at_the_beginning(client: TestClient) -> None:
    upload = begin(client, expires_after={"anchor": "created_at", "seconds": 3600})

    file = complete(client, upload, send_all(client, upload)).json()["file"]

    assert file["expires_at"] - file["created_at"] == 3600


def test_a_broken_line_in_any_part_is_found(client: TestClient) -> None:
    broken = DATA + b"{broken\n"
    upload = begin(client, bytes=len(broken))
    ids = [send(client, upload, piece).json()["id"] for piece in (broken[:90_000], broken[90_000:])]

    file = complete(client, upload, ids).json()["file"]

    assert (file["status"], file["error"]["line"]) == ("error", len(LINES) + 1)


@on_both
def test_a_cancelled_upload_leaves_nothing(client: TestClient, store: ObjectStore) -> None:
    upload = begin(client)
    part_ids = send_all(client, upload)

    cancelled = [client.post(f"/v1/uploads/{upload['id']}/cancel") for _ in range(2)]

    assert [answer.json()["status"] for answer in cancelled] == ["cancelled", "cancelled"]
    assert blobs(store) == []
    for refused in (send(client, upload, PARTS[0]), complete(client, upload, part_ids)):
        assert (refused.status_code, refused.json()["code"]) == (409, "upload_cancelled")
        assert refused.json()["hint"]
    assert blobs(store) == []


def test_a_completed_upload_is_not_cancelled(client: TestClient) -> None:
    upload = begin(client)
    complete(client, upload, send_all(client, upload))

    refused = client.post(f"/v1/uploads/{upload['id']}/cancel")

    assert (refused.status_code, refused.json()["code"]) == (409, "upload_completed")


@on_both
def test_an_abandoned_upload_expires_and_is_collected(
    client: TestClient, engine: Engine, store: ObjectStore
) -> None:
    abandoned, other = begin(client), begin(client)
    send_all(client, abandoned)
    send(client, other, PARTS[0])
    with transaction(engine) as session:
        session.execute(update(Upload).where(Upload.id == abandoned["id"]).values(expires_at=db_time(-1)))

    assert client.get(f"/v1/uploads/{abandoned['id']}").json()["status"] == "expired"
    assert [item["id"] for item in client.get("/v1/uploads").json()["data"]] == [other["id"]]
    assert send(client, abandoned, PARTS[0]).json()["code"] == "upload_expired"
    would_free = drop_abandoned_uploads(engine, store, dry_run=True)
    freed = drop_abandoned_uploads(engine, store)

    assert (freed.num, freed.num_bytes) == (would_free.num, would_free.num_bytes) == (1, len(DATA))
    assert [key.rpartition("/")[2] for key in blobs(store)] == [hashlib.sha256(PARTS[0]).hexdigest()]
    assert client.get(f"/v1/uploads/{abandoned['id']}").json()["status"] == "expired"
    assert drop_abandoned_uploads(engine, store).num == 0


def test_a_part_moves_the_end(client: TestClient, engine: Engine) -> None:
    upload = begin(client)
    with transaction(engine) as session:
        session.execute(update(Upload).values(expires_at=db_time(5)))

    send(client, upload, PARTS[0])

    assert client.get(f"/v1/uploads/{upload['id']}").json()["expires_at"] >= upload["expires_at"]


def test_ended_uploads_are_remembered_for_a_week(
    client: TestClient, engine: Engine, store: ObjectStore
) -> None:
    upload = begin(client)
    client.post(f"/v1/uploads/{upload['id']}/cancel")
    drop_abandoned_uploads(engine, store)
    assert client.get(f"/v1/uploads/{upload['id']}").status_code == 200

    with transaction(engine) as session:
        session.execute(update(Upload).values(ended_at=db_time(-8 * 86_400)))
    drop_abandoned_uploads(engine, store)

    assert client.get(f"/v1/uploads/{upload['id']}").status_code == 404


def test_garbage_collection_leaves_parts_alone(
    client: TestClient, engine: Engine, store: ObjectStore
) -> None:
    upload = begin(client)
    part_ids = send_all(client, upload)

    assert sweep_blobs(engine, store, grace_seconds=0)[0].num == 0
    assert complete(client, upload, part_ids, md5=MD5).status_code == 200


def test_a_damaged_part_is_sent_again(client: TestClient, engine: Engine, store: ObjectStore) -> None:
    upload = begin(client)
    part_ids = send_all(client, upload)
    with read_only(engine) as session:
        part = session.get_one(UploadPart, part_ids[0])
    key = blob_key(project_id=part.project_id, sha256=part.sha256)
    store.delete(key)
    assert store.create(key, b"x" * len(PARTS[0]))

    refused = complete(client, upload, part_ids)
    assert (refused.status_code, refused.json()["code"]) == (409, "part_damaged")
    assert send(client, upload, PARTS[0]).json()["id"] == part_ids[0]

    assert complete(client, upload, part_ids, md5=MD5).json()["file"]["sha256"] == SHA256


def test_bytes_that_are_there_are_named(client: TestClient) -> None:
    first = client.post("/v1/files?filename=a.jsonl", content=DATA).json()
    upload = begin(client)

    file = complete(client, upload, send_all(client, upload)).json()["file"]

    assert file["duplicate_of"] == first["id"]


@pytest.mark.parametrize("storage", ["s3", "memory"])
def test_other_stores_keep_parts_as_well(
    request: pytest.FixtureRequest, tmp_path: Path, storage: str
) -> None:
    url = request.getfixturevalue("s3_url") if storage == "s3" else "memory://"
    api = make_api(tmp_path, storage_url=url)
    api.client.headers.update(api.headers)
    upload = begin(api.client)

    done = complete(api.client, upload, send_all(api.client, upload), md5=MD5)

    assert done.json()["file"]["sha256"] == SHA256
    assert len(blobs(api.store)) == 1
    assert list(api.settings.uploads_dir.iterdir()) == []


def test_a_backup_holds_parts_too(tmp_path: Path) -> None:
    api: Api = make_api(tmp_path)
    api.client.headers.update(api.headers)
    upload = begin(api.client)
    part_ids = send_all(api.client, upload)

    report = back_up(api.settings, into=tmp_path / "copy")

    assert report.num_blobs == len(set(part_ids))
