"""`fusion checkpoints` and `fusion promote`."""

import json
from collections.abc import Callable

from tests.app.cli.conftest import Ran, Service

CHECKPOINT = {
    "id": "art-1",
    "object": "checkpoint",
    "job_id": "job-1",
    "step_name": "train.fused",
    "step": 800,
    "metrics": {"loss": 2.25},
    "num_bytes": 1_500_000_000,
    "is_best": True,
    "is_last": True,
    "is_promotable": True,
    "model_id": None,
    "created_at": 1_700_000_000,
}
PROMOTION = {
    "object": "promotion",
    "checkpoint_id": "art-1",
    "name": "wise-800",
    "status": "running",
    "num_bytes": 13_476_839_424,
    "num_bytes_read": 4_294_967_296,
    "model_id": None,
    "error": None,
}
DONE = {"status": "succeeded", "model_id": "model-1"}
MODEL = {"id": "model-1", "object": "model", "name": "wise-800", "checkpoint_id": "art-1"}


def test_checkpoints_are_listed(talking: Callable[..., Ran], service: Service) -> None:
    service.gives_list("GET /v1/jobs/job-1/checkpoints", CHECKPOINT)

    ran = talking("checkpoints", "job-1")

    line = "art-1\ttrain.fused\t800\t2.25 (lowest)\t1.5 GB\t2023-11-14 22:13:20\t"
    assert line in ran.out.splitlines()
    assert talking("checkpoints", "job-1", "--json").json == [CHECKPOINT]


def test_a_checkpoint_is_promoted(talking: Callable[..., Ran], service: Service) -> None:
    service.gives("POST /v1/checkpoints/art-1/promote", PROMOTION, status=202)
    service.gives("GET /v1/checkpoints/art-1/promotion", {**PROMOTION, **DONE})
    service.gives("GET /v1/models/model-1", MODEL)

    ran = talking("promote", "art-1", "--name", "wise-800")

    assert ran.out.strip() == "model-1"
    route, body = service.requests[0]
    assert (route, json.loads(body)) == ("POST /v1/checkpoints/art-1/promote", {"name": "wise-800"})
    service.gives("POST /v1/checkpoints/art-1/promote", {**PROMOTION, **DONE})
    assert talking("promote", "art-1", "--json").json == MODEL


def test_a_promotion_is_not_waited_for(talking: Callable[..., Ran], service: Service) -> None:
    service.gives("POST /v1/checkpoints/art-1/promote", PROMOTION, status=202)

    ran = talking("promote", "art-1", "--no-wait")

    assert ran.out.strip() == "art-1 is running: 4.3 GB of 13.5 GB read"
    assert talking("promote", "art-1", "--no-wait", "--json").json == PROMOTION


def test_a_promotion_that_failed_is_an_error(talking: Callable[..., Ran], service: Service) -> None:
    error = {"code": "checkpoint_damaged", "message": "it has other bytes", "hint": "promote another one"}
    failed = {**PROMOTION, "status": "failed", "error": error}
    service.gives("POST /v1/checkpoints/art-1/promote", failed, status=202)

    ran = talking("promote", "art-1")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: it has other bytes\nhint: promote another one\n"
