"""Links that need no key open exactly one file, for a while, wherever its bytes are."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from app.artifacts import repository
from app.artifacts.tickets import Ticket, TicketExpired, TicketInvalid
from app.db.session import transaction
from fusion.io.manifest import write_manifest
from tests.support.api import PEPPER, Api, make_api

BODY = b"0123456789" * 1000
BIG = bytes(range(256)) * 40_000


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return make_api(tmp_path)


def publish(api: Api, folder: Path, **files: bytes) -> str:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_manifest(folder, kind="model")
    return api.publish_model(api.running_step(), folder)


def ask(api: Api, artifact_id: str, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
    url = f"/v1/artifacts/{artifact_id}/download_url"
    return api.client.post(url, json=body, headers=headers or api.headers)


def ticket_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["ticket"][0]


def test_a_link_needs_no_key_and_knows_ranges(api: Api, tmp_path: Path) -> None:
    artifact_id = publish(api, tmp_path / "out", weights=BODY)

    link = ask(api, artifact_id, path="weights", expires_in=60).json()

    assert (link["served_by"], link["method"], link["headers"]) == ("api", "GET", {})
    assert (link["path"], link["size"]) == ("weights", len(BODY))
    assert link["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert link["etag"] == f'"{link["sha256"]}"'
    assert 55 < link["expires_at"] - time.time() <= 60
    whole = api.client.get(link["url"])
    assert (whole.status_code, whole.content) == (200, BODY)
    assert whole.headers["content-disposition"].startswith("attachment;")
    assert whole.headers["etag"] == link["etag"]
    part = api.client.get(link["url"], headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, BODY[5:10])
    assert api.client.head(link["url"]).headers["content-length"] == str(len(BODY))


def test_a_link_starts_where_the_operator_says(tmp_path: Path) -> None:
    api = make_api(tmp_path, public_url="https://fusion.example/base/")

    link = ask(api, publish(api, tmp_path / "out", weights=BODY), path="weights").json()

    assert link["url"].startswith("https://fusion.example/base/v1/downloads?ticket=")


@pytest.mark.parametrize("seconds", [59, 3601, -1, "soon"])
def test_links_last_between_a_minute_and_an_hour(api: Api, tmp_path: Path, seconds: object) -> None:
    refused = ask(api, publish(api, tmp_path / "out", weights=BODY), expires_in=seconds)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/expires_in"


def test_what_is_not_there_or_not_theirs_gets_no_link(api: Api, tmp_path: Path) -> None:
    artifact_id = publish(api, tmp_path / "out", weights=BODY, more=b"x")

    assert ask(api, artifact_id).status_code == 404, "two files, and no path"
    assert ask(api, artifact_id, path="../weights").status_code == 404
    assert ask(api, artifact_id, headers=api.key(project="other"), path="weights").status_code == 404


def test_a_link_ends(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = ask(api, publish(api, tmp_path / "out", weights=BODY), path="weights", expires_in=60).json()
    later = time.time() + 61

    monkeypatch.setattr(time, "time", lambda: later)
    refused = api.client.get(link["url"])

    assert (refused.status_code, refused.json()["code"]) == (403, "download_url_expired")
    assert refused.json()["hint"]


def test_a_link_ends_with_its_artifact(api: Api, tmp_path: Path) -> None:
    artifact_id = publish(api, tmp_path / "out", weights=BODY)
    link = ask(api, artifact_id, path="weights").json()
    with transaction(api.engine) as session:
        repository.remove_artifacts(session, [artifact_id])

    assert api.client.get(link["url"]).status_code == 404


def test_an_altered_link_opens_nothing(api: Api, tmp_path: Path) -> None:
    artifact_id = publish(api, tmp_path / "out", weights=BODY, secret=b"secret")
    signed = ticket_of(ask(api, artifact_id, path="weights").json()["url"])
    data = base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4))
    payload = json.loads(data[32:])

    def forged(**changes: object) -> str:
        body = json.dumps(payload | changes, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(data[:32] + body).decode().rstrip("=")

    assert api.client.get("/v1/downloads", params={"ticket": forged()}).status_code == 200
    attempts = [
        "",
        "x",
        signed[:-2],
        signed[1:],
        "A" * 1900,
        forged(path="secret"),
        forged(expires_at=payload["expires_at"] + 1),
        forged(project_id="proj-other"),
        Ticket(**payload).signed(pepper=b"q" * 32),
        base64.urlsafe_b64encode(data[32:]).decode(),
    ]
    for attempt in attempts:
        refused = api.client.get("/v1/downloads", params={"ticket": attempt})
        assert (refused.status_code, refused.json()["code"]) == (403, "download_url_invalid"), attempt


def test_every_bit_of_a_ticket_counts() -> None:
    ticket = Ticket(project_id="p", artifact_id="a", path="ü/x", expires_at=int(time.time()) + 60)
    data = bytearray(base64.urlsafe_b64decode(ticket.signed(pepper=PEPPER) + "==="))

    for index in range(len(data)):
        data[index] ^= 1
        with pytest.raises(TicketInvalid):
            Ticket.read(base64.urlsafe_b64encode(bytes(data)).decode().rstrip("="), pepper=PEPPER)
        data[index] ^= 1
    assert Ticket.read(ticket.signed(pepper=PEPPER), pepper=PEPPER) == ticket
    old = Ticket(project_id="p", artifact_id="a", path="x", expires_at=int(time.time()))
    with pytest.raises(TicketExpired):
        Ticket.read(old.signed(pepper=PEPPER), pepper=PEPPER)


def test_no_log_tells_a_ticket(api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact_id = publish(api, tmp_path / "out", weights=BODY)
    link = ask(api, artifact_id, path="weights").json()
    api.client.get(link["url"])

    lines = "".join(capsys.readouterr()).splitlines()
    # The client of this test tells its own requests.
    printed = "\n".join(line for line in lines if '"logger": "httpx2"' not in line)
    assert "/v1/downloads" in printed, "the request is logged"
    assert ticket_of(link["url"])[:20] not in printed


def test_a_store_that_signs_serves_by_itself(tmp_path: Path, s3_url: str) -> None:
    api = make_api(tmp_path, storage_url=s3_url)
    artifact_id = publish(api, tmp_path / "out", weights=BODY, big=BIG)

    for path, data in (("weights", BODY), ("big", BIG)):
        link = ask(api, artifact_id, path=path, expires_in=60).json()
        assert (link["served_by"], link["etag"]) == ("storage", None)
        assert "X-Amz-Expires=60" in link["url"]
        assert str(api.settings.data_dir) not in link["url"]
        answer = httpx2.get(link["url"], headers={"Range": "bytes=100-199"})
        assert (answer.status_code, answer.content) == (206, data[100:200])
        assert answer.headers["content-disposition"] == "attachment"


def test_an_operator_may_keep_the_store_out_of_sight(tmp_path: Path, s3_url: str) -> None:
    api = make_api(tmp_path, storage_url=s3_url, download_mode="proxy")

    link = ask(api, publish(api, tmp_path / "out", weights=BODY), path="weights").json()

    assert link["served_by"] == "api"
    assert api.client.get(link["url"]).content == BODY
