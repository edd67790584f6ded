"""What can be asked for, and what is refused and why."""

from typing import Any

import pytest

from tests.app.publications.conftest import FILES, TOKEN, Publishing

HUB = {"target": "hf", "repo": "org/wise", "secret": "token"}
S3 = {"target": "s3", "url": "s3://bucket/wise", "access_key_id": "AKIA", "secret": "token"}
ALLOWED = "http://mlflow.internal:5000"
MLFLOW = {"target": "mlflow", "tracking_uri": f"{ALLOWED}/prefix", "name": "wise"}


@pytest.fixture
def origins() -> tuple[str, ...]:
    return (ALLOWED,)


def test_it_is_asked_for_and_shown(publishing: Publishing) -> None:
    answer = publishing.ask(**HUB)

    shown = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/publications/{shown['id']}"
    assert publishing.show(shown["id"]) == shown
    assert (shown["status"], shown["target"], shown["num_bytes_sent"]) == ("queued", "hf", 0)
    assert shown["destination"] == {**HUB, "branch": "main", "private": True, "message": None}
    assert (shown["model_id"], shown["job_id"]) == (publishing.model.model_id, publishing.model.job_id)
    assert shown["num_bytes"] > sum(map(len, FILES.values()))


def test_asked_again_before_it_is_finished_it_is_the_same(publishing: Publishing) -> None:
    first = publishing.asked(**HUB)

    assert publishing.asked(**HUB) == first
    assert publishing.asked(**HUB, branch="main") == first
    assert publishing.asked(**HUB, branch="other") != first


@pytest.mark.parametrize(
    ("wanted", "pointer", "code"),
    [
        ({"repo": "org/wise"}, "/target", None),
        ({"target": "ftp"}, "/target", None),
        ({**HUB, "repo": "wise"}, "/repo", None),
        ({**HUB, "repo": "../../etc"}, "/repo", None),
        ({**HUB, "repo": "org/a--b"}, "/repo", None),
        ({**HUB, "repo": "org/wise.git"}, "/repo", None),
        ({**HUB, "branch": "-f"}, "/branch", None),
        ({**HUB, "colour": "red"}, "/colour", None),
        ({"target": "hf", "repo": "org/wise"}, "/secret", None),
        ({**HUB, "secret": "nobodys"}, "/secret", "secret_not_found"),
        ({**S3, "url": "s3://bucket/../other"}, "/url", None),
        ({**S3, "url": "https://bucket/wise"}, "/url", None),
        ({**S3, "url": "s3://UPPER/wise"}, "/url", None),
        ({**S3, "region": "evil.example.com/"}, "/region", None),
        ({**S3, "endpoint": "http://169.254.169.254"}, "/endpoint", "destination_not_allowed"),
        ({**S3, "endpoint": "https://mlflow.internal:5000"}, "/endpoint", "destination_not_allowed"),
        ({**S3, "endpoint": "http://mlflow.internal:5000@evil.example.com"}, "/endpoint", "url_invalid"),
        ({**MLFLOW, "tracking_uri": "http://mlflow.internal"}, "/tracking_uri", "destination_not_allowed"),
        ({**MLFLOW, "tracking_uri": f"{ALLOWED}.evil.com"}, "/tracking_uri", "url_invalid"),
        ({**MLFLOW, "tracking_uri": f"{ALLOWED}/?x=1"}, "/tracking_uri", "url_invalid"),
        ({**MLFLOW, "tracking_uri": "file:///etc"}, "/tracking_uri", None),
        ({**MLFLOW, "name": "a/b"}, "/name", None),
        ({**MLFLOW, "username": "ada"}, "/secret", "missing"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_field_at_fault(
    publishing: Publishing, wanted: dict[str, Any], pointer: str, code: str | None
) -> None:
    answer = publishing.ask(**wanted)

    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["errors"]
    assert problem["pointer"] == pointer
    assert code is None or answer.json()["code"] == code
    assert publishing.client.get("/v1/publications").json()["data"] == []


def test_a_lost_answer_is_asked_for_again(publishing: Publishing) -> None:
    path = f"/v1/models/{publishing.model.model_id}/publish"
    first, again = (
        publishing.client.post(path, json=HUB, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    publishing.client.post(f"/v1/publications/{first.json()['id']}/cancel")
    after_its_end = publishing.client.post(path, json=HUB, headers={"Idempotency-Key": "k"})

    assert again.json() == after_its_end.json() == first.json()
    assert after_its_end.headers["Location"] == first.headers["Location"]


def test_a_registered_checkpoint_has_nothing_to_publish(publishing: Publishing) -> None:
    ref = {"hub": "org/llama", "revision": "0" * 40}
    model = publishing.client.post("/v1/models", json={"name": "llama", "ref": ref}).json()

    answer = publishing.ask(model["id"], **HUB)

    assert (answer.status_code, answer.json()["code"]) == (409, "model_has_no_artifact")


def test_they_are_listed_by_model_and_status(publishing: Publishing) -> None:
    other = publishing.another_model("other", {"config.json": b"{}"})
    ids = [publishing.asked(**HUB), publishing.asked(other.model_id, **HUB)]
    publishing.client.post(f"/v1/publications/{ids[1]}/cancel")

    def listed(**filters: str) -> list[str]:
        answer = publishing.client.get("/v1/publications", params=filters)
        return [one["id"] for one in answer.json()["data"]]

    assert listed() == ids[::-1]
    assert listed(model_id=other.model_id) == [ids[1]]
    assert listed(status="queued") == [ids[0]]
    assert listed(status="failed") == []


def test_a_cancelled_one_is_not_sent(publishing: Publishing) -> None:
    publication_id = publishing.asked(**HUB)

    answers = [publishing.client.post(f"/v1/publications/{publication_id}/cancel") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}
    assert publishing.keep_house() == 0
    assert publishing.asked(**HUB) != publication_id


def test_a_finished_one_is_not_cancelled(publishing: Publishing) -> None:
    secret = publishing.client.post("/v1/secrets", json={"name": "short-lived", "value": TOKEN}).json()
    publication_id = publishing.asked(**{**HUB, "secret": "short-lived"})
    publishing.client.delete(f"/v1/secrets/{secret['id']}")
    publishing.keep_house()

    failed = publishing.show(publication_id)
    answer = publishing.client.post(f"/v1/publications/{publication_id}/cancel")

    assert (failed["status"], failed["error"]["code"]) == ("failed", "secret_not_found")
    assert (answer.status_code, answer.json()["code"]) == (409, "publication_finished")


def test_a_model_stays_while_it_is_published(publishing: Publishing) -> None:
    publication_id = publishing.asked(**HUB)
    path = f"/v1/models/{publishing.model.model_id}"

    refused = publishing.client.delete(path)
    publishing.client.post(f"/v1/publications/{publication_id}/cancel")
    deleted = publishing.client.delete(path)

    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    assert publication_id in refused.json()["detail"]
    assert deleted.status_code == 200
    assert publishing.show(publication_id)["model_id"] == publishing.model.model_id


def test_an_operator_may_close_what_was_open(publishing: Publishing) -> None:
    publication_id = publishing.asked(**MLFLOW)
    publishing.origins = ()
    publishing.keep_house()

    failed = publishing.show(publication_id)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_not_allowed")
