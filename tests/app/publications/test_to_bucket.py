"""A model is put into a bucket with the user's own keys, and a folder with a manifest is whole."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.app.publications.conftest import FILES, TOKEN, Publishing
from tests.support.blunt_server import BluntServer, blunt_server
from tests.support.object_store import s3_client, s3_environment

KEYS = {"target": "s3", "access_key_id": "AKIAUSER", "secret": "token"}
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


@pytest.fixture
def bucket(s3_server: str) -> str:
    name = f"models-{uuid.uuid4().hex[:12]}"
    s3_client(s3_server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def origins(s3_server: str) -> tuple[str, ...]:
    return (s3_server,)


@pytest.fixture
def folder(publishing: Publishing, s3_server: str, bucket: str) -> dict[str, Any]:
    """What a user asks for."""
    return {**KEYS, "url": f"s3://{bucket}/fused/wise", "endpoint": s3_server}


def stored(address: str, bucket: str) -> dict[str, bytes]:
    client = s3_client(address)
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def put(address: str, bucket: str, key: str, data: bytes) -> None:
    s3_client(address).put_object(Bucket=bucket, Key=key, Body=data)


def test_a_model_becomes_a_folder(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    done = publishing.publish(**folder)

    assert (done["status"], done["error"]) == ("succeeded", None)
    assert (done["url"], done["num_bytes_sent"]) == (f"s3://{bucket}/fused/wise", done["num_bytes"])
    manifest = publishing.client.get(f"/v1/models/{publishing.model.model_id}/manifest").json()
    assert done["revision"] == manifest["digest"]
    there = stored(s3_server, bucket)
    assert there.pop("fused/wise/manifest.json")
    assert there == {f"fused/wise/{path}": data for path, data in FILES.items()}


def test_a_folder_that_holds_the_model_is_left_alone(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    publishing.publish(**folder)
    put(s3_server, bucket, "fused/wise/config.json", b"changed by its owner")

    again = publishing.publish(**folder)

    assert again["status"] == "succeeded"
    assert stored(s3_server, bucket)["fused/wise/config.json"] == b"changed by its owner"


def test_another_model_is_replaced_only_where_that_is_asked_for(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    publishing.publish(**folder)
    put(s3_server, bucket, "fused/wise/NOTES.md", b"of a person")
    put(s3_server, bucket, "fused/wise/lora/model.safetensors", b"of a person, too")
    before = stored(s3_server, bucket)
    small = publishing.another_model("small", {"config.json": b"{}", "model.safetensors": b"weights"})

    refused = publishing.publish(small.model_id, **folder)
    after_refusal = stored(s3_server, bucket)
    done = publishing.publish(small.model_id, **folder, overwrite=True)

    assert (refused["status"], refused["error"]["code"]) == ("failed", "destination_taken")
    assert "overwrite" in refused["error"]["hint"]
    assert after_refusal == before
    assert done["status"] == "succeeded"
    there = {key.removeprefix("fused/wise/"): data for key, data in stored(s3_server, bucket).items()}
    kept = {"README.md", "NOTES.md", "lora/model.safetensors"}
    assert there.keys() == {"config.json", "model.safetensors", "manifest.json", *kept}
    assert there["model.safetensors"] == b"weights"


def test_a_folder_that_was_left_in_the_middle_is_finished(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    digest = publishing.client.get(f"/v1/models/{publishing.model.model_id}/manifest").json()["digest"]
    put(s3_server, bucket, "fused/wise/.publishing", digest.encode())
    put(s3_server, bucket, "fused/wise/config.json", b"half")

    done = publishing.publish(**folder)

    assert done["status"] == "succeeded"
    there = stored(s3_server, bucket)
    assert there["fused/wise/config.json"] == FILES["config.json"]
    assert "fused/wise/.publishing" not in there


def test_a_folder_into_which_another_model_is_put_is_refused(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    put(s3_server, bucket, "fused/wise/.publishing", b"0" * 64)

    refused = publishing.publish(**folder)
    done = publishing.publish(**folder, overwrite=True)

    assert (refused["status"], refused["error"]["code"]) == ("failed", "destination_taken")
    assert done["status"] == "succeeded"


def test_an_empty_folder_of_a_console_is_empty(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    put(s3_server, bucket, "fused/wise/", b"")

    assert publishing.publish(**folder)["status"] == "succeeded"


def test_damaged_bytes_leave_no_manifest(
    publishing: Publishing, s3_server: str, bucket: str, folder: dict[str, Any]
) -> None:
    publishing.damage(FILES["model-00002-of-00002.safetensors"])

    failed = publishing.publish(**folder)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_damaged")
    assert "fused/wise/manifest.json" not in stored(s3_server, bucket)
    assert "fused/wise/model-00002-of-00002.safetensors" not in stored(s3_server, bucket)
    assert not s3_client(s3_server).list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_a_bucket_that_is_not_there_is_named(publishing: Publishing, folder: dict[str, Any]) -> None:
    failed = publishing.publish(**{**folder, "url": "s3://nobodys-bucket/wise"})

    assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_refused")
    assert "404 NoSuchBucket: The specified bucket does not exist" in failed["error"]["message"]


class TestOfAServerThatRefuses:
    @pytest.fixture
    def blunt(self) -> Iterator[BluntServer]:
        with blunt_server(BluntServer(status=403, body=DENIED, content_type="application/xml")) as blunt:
            yield blunt

    @pytest.fixture
    def origins(self, blunt: BluntServer) -> tuple[str, ...]:
        return (blunt.url,)

    def test_only_the_users_keys_are_shown(
        self, publishing: Publishing, blunt: BluntServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The service's own, with which it reaches its store, are in the environment."""
        more = {"AWS_SESSION_TOKEN": "of-the-service", "AWS_SKIP_SIGNATURE": "true"}
        for name, value in {**s3_environment("http://127.0.0.1:1"), **more}.items():
            monkeypatch.setenv(name, value)

        failed = publishing.publish(**KEYS, url="s3://bucket/wise", endpoint=blunt.url)

        assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_denied")
        assert blunt.asked
        for headers in blunt.asked:
            assert "Credential=AKIAUSER/" in headers["authorization"]
            assert "x-amz-security-token" not in headers
        assert TOKEN not in str(failed) + str(blunt.asked)

    def test_nothing_of_the_services_own_store_reaches_it(
        self, publishing: Publishing, blunt: BluntServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every variable that the library reads and that is not about encryption."""
        own = {
            **s3_environment("http://127.0.0.1:1"),
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
            "AWS_DEFAULT_REGION": "of-the-service",
            "AWS_SESSION_TOKEN": "of-the-service",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_UNSIGNED_PAYLOAD": "true",
            "AWS_S3_EXPRESS": "true",
            "AWS_REQUEST_PAYER": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
            "AWS_CONDITIONAL_PUT": "disabled",
        }
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        blunt.status, blunt.body = 200, b""
        blunt.choose = _empty_bucket

        done = publishing.publish(**KEYS, url="s3://bucket/wise", endpoint=blunt.url)

        # The server remembers nothing, so neither what marked the folder.
        assert done["error"]["message"] == "somebody else has begun to write to the folder"
        assert any(path.startswith("PUT /bucket/wise/config.json") for path in blunt.paths)
        assert "of-the-service" not in str(blunt.asked)
        for headers in blunt.asked:
            assert "Credential=AKIAUSER/" in headers["authorization"]
            assert headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"
            assert "x-amz-request-payer" not in headers

    @pytest.mark.parametrize("name", ["AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_CUSTOMER_KEY_BASE64"])
    def test_a_service_whose_key_would_be_shown_refuses(
        self, publishing: Publishing, blunt: BluntServer, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "sse-c")

        failed = publishing.publish(**KEYS, url="s3://bucket/wise", endpoint=blunt.url)

        assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_not_allowed")
        assert name in failed["error"]["message"]
        assert blunt.asked == []

    def test_another_region_is_named(self, publishing: Publishing, blunt: BluntServer) -> None:
        blunt.status, blunt.body = 301, b""

        failed = publishing.publish(**KEYS, url="s3://bucket/wise", endpoint=blunt.url)

        assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_refused")
        assert "another region" in failed["error"]["message"]
        assert "Debug" not in failed["error"]["message"]

    def test_one_in_trouble_is_asked_again_later(self, publishing: Publishing, blunt: BluntServer) -> None:
        blunt.status = 503

        waiting = publishing.publish(**KEYS, url="s3://bucket/wise", endpoint=blunt.url)

        assert (waiting["status"], waiting["num_failures"]) == ("queued", 1)
        assert waiting["error"]["code"] == "destination_unreachable"


def _empty_bucket(method: str, path: str) -> tuple[int, bytes] | None:
    """What a server tells of a bucket with nothing in it."""
    if "list-type=2" in path:
        return 200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    if method == "POST":
        begun, ended = b"<UploadId>u</UploadId>", b"<Location>l</Location><Key>k</Key><ETag>e</ETag>"
        if "uploads" in path:
            return 200, b"<InitiateMultipartUploadResult>" + begun + b"</InitiateMultipartUploadResult>"
        return 200, b"<CompleteMultipartUploadResult>" + ended + b"</CompleteMultipartUploadResult>"
    return (404, b"") if method in ("HEAD", "GET") else None
