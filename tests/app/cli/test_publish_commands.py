"""`fusion publish`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.app.cli.conftest import Ran, Service

QUEUED: dict[str, Any] = {
    "id": "pub-1",
    "object": "publication",
    "model_id": "model-1",
    "target": "hf",
    "destination": {"target": "hf", "repo": "org/wise", "secret": "token"},
    "status": "queued",
    "num_bytes": 13_476_839_424,
    "num_bytes_sent": 4_294_967_296,
    "num_failures": 0,
    "next_try_at": None,
    "url": None,
    "revision": None,
    "error": None,
    "created_at": 1_700_000_000,
}
DONE = {**QUEUED, "status": "succeeded", "url": "https://hub/org/wise/tree/abc", "revision": "abc"}
ERROR = {"code": "destination_unreachable", "message": "the hub is away", "hint": "look whether it is up"}
ASK = "POST /v1/models/model-1/publish"
SHOW = "GET /v1/publications/pub-1"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (
            ["hf", "model-1", "org/wise", "--secret", "token", "--public", "--branch", "b"],
            {"target": "hf", "repo": "org/wise", "secret": "token", "private": False, "branch": "b"},
        ),
        (
            ["s3", "model-1", "s3://b/wise", "--access-key-id", "AK", "--secret", "keys", "--overwrite"],
            {
                "target": "s3",
                "url": "s3://b/wise",
                "access_key_id": "AK",
                "secret": "keys",
                "overwrite": True,
            },
        ),
        (
            ["mlflow", "model-1", "https://mlflow.example.com", "wise"],
            {"target": "mlflow", "tracking_uri": "https://mlflow.example.com", "name": "wise"},
        ),
    ],
)
def test_a_model_is_published_and_waited_for(
    talking: Callable[..., Ran], service: Service, words: list[str], asked: dict[str, Any]
) -> None:
    service.gives(ASK, QUEUED, status=202)
    service.gives(SHOW, DONE)

    ran = talking("publish", *words)

    assert (ran.code, ran.out.strip()) == (0, DONE["url"])
    route, body = service.requests[0]
    assert (route, json.loads(body) | asked) == (ASK, json.loads(body))
    assert talking("publish", *words, "--json").json == DONE


def test_it_is_not_waited_for(talking: Callable[..., Ran], service: Service) -> None:
    service.gives(ASK, QUEUED, status=202)

    ran = talking("publish", "hf", "model-1", "org/wise", "--secret", "token", "--no-wait")

    assert ran.out.strip() == "pub-1 is queued: 4.3 GB of 13.5 GB sent"


def test_a_try_in_vain_is_told_while_it_waits(talking: Callable[..., Ran], service: Service) -> None:
    service.gives(ASK, {**QUEUED, "error": ERROR, "next_try_at": 1_700_000_060}, status=202)
    service.gives(SHOW, DONE)

    ran = talking("publish", "hf", "model-1", "org/wise", "--secret", "token")

    assert (ran.code, ran.out.strip()) == (0, DONE["url"])
    assert "the hub is away; tried again at 2023-11-14 22:14:20 UTC" in ran.err


@pytest.mark.parametrize(
    ("status", "told"), [("failed", "pub-1 is failed: the hub is away"), ("cancelled", "pub-1 is cancelled")]
)
def test_one_that_ends_otherwise_is_an_error(
    talking: Callable[..., Ran], service: Service, status: str, told: str
) -> None:
    error = ERROR if status == "failed" else None
    service.gives(ASK, {**QUEUED, "status": status, "error": error}, status=202)

    ran = talking("publish", "hf", "model-1", "org/wise", "--secret", "token")

    assert (ran.code, ran.out) == (1, "")
    assert told in ran.err


def test_they_are_listed_shown_and_cancelled(talking: Callable[..., Ran], service: Service) -> None:
    service.gives_list("GET /v1/publications", DONE, {**QUEUED, "error": ERROR})
    service.gives(SHOW, QUEUED)
    service.gives("POST /v1/publications/pub-1/cancel", {**QUEUED, "status": "cancelled"})

    rows = talking("publish", "list").out.splitlines()

    assert f"pub-1\tmodel-1\thf\tsucceeded\t2023-11-14 22:13:20\t{DONE['url']}" in rows
    assert "pub-1\tmodel-1\thf\tqueued\t2023-11-14 22:13:20\tthe hub is away" in rows
    assert talking("publish", "show", "pub-1", "--json").json == QUEUED
    assert "is cancelled" in talking("publish", "cancel", "pub-1").out
