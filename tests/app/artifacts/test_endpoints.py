"""Downloads over HTTP, as RFC 9110 and RFC 9530 have them."""

import base64
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.artifacts.downloads import content_disposition, verified
from app.storage.store import ObjectDamaged, blob_key
from fusion.io.manifest import write_manifest
from tests.support.api import Api, make_api

BODY = b"0123456789" * 100
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(params=["file", "memory"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Api:
    return make_api(tmp_path, storage_url="memory://" if request.param == "memory" else "")


def _publish(api: Api, folder: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_manifest(folder, kind="model", meta={"steps": 3})
    return api.publish_model(api.running_step(), folder)


@pytest.fixture
def content_url(api: Api, tmp_path: Path) -> str:
    return f"/v1/artifacts/{_publish(api, tmp_path / 'out', {'model.safetensors': BODY})}/content"


def _get(api: Api, url: str, **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.client.get(url, headers=api.headers | names)


def test_the_whole_comes_with_everything_a_client_needs(api: Api, content_url: str) -> None:
    answer = _get(api, content_url)

    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["content-length"] == "1000"
    assert answer.headers["accept-ranges"] == "bytes"
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert 'filename="model.safetensors"' in answer.headers["content-disposition"]


@pytest.mark.parametrize("flipped", [0, 400, 999])
def test_a_damaged_object_never_makes_a_complete_answer(api: Api, content_url: str, flipped: int) -> None:
    key = blob_key(project_id=api.principal.project_id, sha256=DIGEST)
    api.store.delete(key)
    damaged = bytearray(BODY)
    damaged[flipped] ^= 1
    assert api.store.create(key, bytes(damaged))

    answer = _get(api, content_url)

    assert len(answer.content) < len(BODY)


def test_what_is_not_the_last_piece_is_not_held_back() -> None:
    pieces = [b"0123", b"4567", b"89"]
    digest = hashlib.sha256(b"0123456789").hexdigest()

    assert list(verified(iter(pieces), sha256=digest, name="file")) == pieces
    damaged = verified(iter([b"0123", b"4567", b"88"]), sha256=digest, name="file")
    assert [next(damaged), next(damaged)] == pieces[:2]
    with pytest.raises(ObjectDamaged):
        next(damaged)


def test_head_tells_the_same_without_the_bytes(api: Api, content_url: str) -> None:
    whole = _get(api, content_url)

    answer = api.client.head(content_url, headers=api.headers | {"Range": "bytes=0-1"})

    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("etag", "content-length", "accept-ranges", "repr-digest"):
        assert answer.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    ("header", "start", "end"), [("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=-5", 995, 1000)]
)
def test_one_range(api: Api, content_url: str, header: str, start: int, end: int) -> None:
    answer = _get(api, content_url, Range=header)

    assert (answer.status_code, answer.content) == (206, BODY[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert answer.headers["content-length"] == str(end - start)


def test_several_ranges_are_answered_with_the_whole(api: Api, content_url: str) -> None:
    answer = _get(api, content_url, Range="bytes=0-1,5-6")

    assert (answer.status_code, answer.content) == (200, BODY)


def test_a_range_beyond_the_end_says_how_long_it_is(api: Api, content_url: str) -> None:
    answer = _get(api, content_url, Range="bytes=1000-")

    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */1000"
    assert answer.json()["code"] == "range_not_satisfiable"


def test_bytes_the_client_has_are_not_sent_again(api: Api, content_url: str) -> None:
    answer = _get(api, content_url, If_None_Match=f'"{DIGEST}"')

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert _get(api, content_url, If_None_Match='"other"').status_code == 200


def test_a_range_of_another_version_gets_the_whole(api: Api, content_url: str) -> None:
    assert _get(api, content_url, Range="bytes=0-1", If_Range=f'"{DIGEST}"').status_code == 206
    assert _get(api, content_url, Range="bytes=0-1", If_Range='"other"').status_code == 200


def test_an_artifact_lists_its_files_and_where_to_get_them(api: Api, tmp_path: Path) -> None:
    artifact_id = _publish(api, tmp_path / "out", {"a b&c.json": b"{}", "deep/ü.bin": b"x", "empty": b""})

    artifact: dict[str, Any] = _get(api, f"/v1/artifacts/{artifact_id}").json()

    assert [file["path"] for file in artifact["files"]] == [
        "a b&c.json",
        "deep/ü.bin",
        "empty",
        "manifest.json",
    ]
    assert (artifact["object"], artifact["kind"], artifact["format"]) == ("artifact", "model", "model")
    assert artifact["meta"] == {"steps": 3}
    for file in artifact["files"]:
        body = _get(api, file["content_url"]).content
        assert (len(body), hashlib.sha256(body).hexdigest()) == (file["size"], file["sha256"])


def test_with_several_files_the_path_must_be_given(api: Api, tmp_path: Path) -> None:
    artifact_id = _publish(api, tmp_path / "out", {"a": b"1", "b": b"2"})

    answer = _get(api, f"/v1/artifacts/{artifact_id}/content")

    assert answer.status_code == 404
    assert "?path=" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["../../fusion.db", "/etc/passwd", "a%00b", "..%2Fa", "", "missing"])
def test_paths_are_names_and_nothing_else(api: Api, content_url: str, path: str) -> None:
    answer = _get(api, f"{content_url}?path={path}")

    assert answer.status_code == 404
    assert answer.json()["code"] == "artifact_file_not_found"


def test_another_project_sees_nothing(api: Api, content_url: str) -> None:
    stranger = api.key(project="other")
    artifact_url = content_url.removesuffix("/content")

    for url in (content_url, artifact_url):
        assert api.client.get(url, headers=stranger).status_code == 404
    assert api.client.head(content_url, headers=stranger).status_code == 404
    job_id = _get(api, artifact_url).json()["job_id"]
    assert api.client.get(f"/v1/artifacts?job_id={job_id}", headers=stranger).json()["data"] == []


def test_lists_are_filtered_and_paged(api: Api, tmp_path: Path) -> None:
    ids = [_publish(api, tmp_path / str(number), {"a": b"%d" % number}) for number in range(3)]
    first_job = _get(api, f"/v1/artifacts/{ids[0]}").json()["job_id"]

    page = _get(api, "/v1/artifacts?order=asc&limit=2").json()
    rest = _get(api, f"/v1/artifacts?order=asc&limit=2&after={page['last_id']}").json()

    assert sorted(item["id"] for item in page["data"] + rest["data"]) == sorted(ids)
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert [item["id"] for item in _get(api, f"/v1/artifacts?job_id={first_job}").json()["data"]] == [ids[0]]
    assert _get(api, "/v1/artifacts?kind=output").json()["data"] == []


def test_lost_bytes_are_an_error_and_not_a_short_answer(api: Api, content_url: str) -> None:
    api.store.delete(blob_key(project_id=api.principal.project_id, sha256=DIGEST))

    answer = _get(api, content_url)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_large_download_is_streamed(tmp_path: Path) -> None:
    api = make_api(tmp_path)
    size = 32 << 20
    artifact_id = _publish(api, tmp_path / "out", {"big": bytes(size)})
    key = blob_key(project_id=api.principal.project_id, sha256=hashlib.sha256(bytes(size)).hexdigest())

    tracemalloc.start()
    received = sum(len(piece) for piece in api.store.open_range(key, start=0, end=size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert received == size
    assert peak < 4 << 20
    answer = _get(api, f"/v1/artifacts/{artifact_id}/content", Range=f"bytes={size - 3}-")
    assert answer.content == bytes(3)


def test_no_file_name_can_break_out_of_its_header() -> None:
    header = content_disposition('a"; x=\r\nSet-Cookie: b ü/..\\')

    assert "\r" not in header
    assert "\n" not in header
    assert header.isascii()
    assert header.count('"') == 2
