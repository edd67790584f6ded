"""Webhooks reach receivers that work, and try again with those that do not."""

import json
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from standardwebhooks import Webhook, WebhookVerificationError

from app.db.base import db_time
from app.db.models import Project, WebhookEndpoint
from app.db.session import in_transaction, transaction
from app.jobs import service as jobs
from app.settings import Settings
from app.webhooks.announcing import announce
from app.webhooks.courier import Courier
from app.webhooks.deliveries import claim
from app.webhooks.types import WebhookType
from tests.app.jobs import builders as given
from tests.app.webhooks.conftest import end_leases, make_courier, make_due, make_endpoint
from tests.support.receivers import Received, Receiver, receiving

NUM_EVENTS_PER_JOB = int(os.environ.get("FUSION_TEST_EVENTS", "5"))
Look = Callable[[], list[dict[str, Any]]]


def test_a_job_is_told_from_its_beginning_to_its_end(
    engine: Engine, project_id: str, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    job = given.submit(engine, project_id)
    given.run_to_end(engine)

    courier.run_once()

    told = [json.loads(request.body) for request in receiver.received]
    assert [event["type"] for event in told] == [
        "fusion.job.queued",
        "fusion.job.started",
        "fusion.model.created",
        "fine_tuning.job.succeeded",
    ]
    assert {event["data"].get("job_id", event["data"]["id"]) for event in told} == {job.id}
    assert told[-1]["data"] == {"id": job.id, "object": "job", "status": "succeeded"}
    assert {event["id"] for event in told} <= {event.id for event in given.events(engine, job.id)}
    assert all(len(request.body) < 20_000 for request in receiver.received)


def test_what_a_user_does_with_a_job_is_told(
    engine: Engine, project_id: str, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    asked = {"project_id": project_id, "job_id": given.submit(engine, project_id).id}
    for action in (jobs.request_pause, jobs.request_resume):
        in_transaction(engine, action, **asked)
    given.fail(engine, given.claim(engine), given.USER_ERROR)
    for action in (jobs.retry, jobs.request_cancel):
        in_transaction(engine, action, **asked)

    courier.run_once()

    told = [json.loads(request.body)["type"].rpartition(".")[2] for request in receiver.received]
    assert told == ["queued", "paused", "resumed", "started", "failed", "retried", "cancelled"]


def test_an_endpoint_is_told_what_it_asked_for(
    client: TestClient, engine: Engine, project_id: str, receiver: Receiver, courier: Courier
) -> None:
    client.post("/v1/webhook_endpoints", json={"url": receiver.url})
    make_endpoint(client, receiver.url, enabled=False)
    given.submit(engine, project_id)
    given.submit_in_new_project(engine)
    given.run_to_end(engine)

    courier.run_once()

    assert [json.loads(request.body)["type"] for request in receiver.received] == [
        "fine_tuning.job.succeeded"
    ]


def test_the_reference_library_accepts_the_signature(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    courier.run_once()
    (request,) = receiver.received

    told = Webhook(endpoint["secret"]).verify(request.body, request.headers)

    assert told["data"] == {"id": endpoint["id"], "object": "webhook_endpoint"}
    assert told["id"] == request.id
    for forged in (
        request.headers | {"webhook-id": "evt-0"},
        request.headers | {"webhook-timestamp": str(int(request.headers["webhook-timestamp"]) + 1)},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(endpoint["secret"]).verify(request.body, forged)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(request.body + b" ", request.headers)


def test_after_a_rotation_both_secrets_sign_for_a_day(
    client: TestClient, engine: Engine, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    secrets = [endpoint["secret"], *(client.post(f"{path}/rotate_secret").json()["secret"] for _ in range(2))]
    client.post(f"{path}/test")
    courier.run_once()
    with transaction(engine) as session:
        session.execute(update(WebhookEndpoint).values(old_secret_ends_at=db_time(-1)))
    client.post(f"{path}/test")
    courier.run_once()

    # A slow machine may need a second try.
    signed = {request.id: valid(request, secrets) for request in receiver.received}
    assert list(signed.values()) == [[False, True, True], [False, False, True]]
    assert "secret" not in client.get(path).json()


def test_only_2xx_is_success(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier, deliveries: Look
) -> None:
    statuses = [301, 302, 307, 400, 413, 500]
    with receiving() as elsewhere:
        for status in statuses:
            receiver.answers(status, Location=elsewhere.url)
            client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
            courier.run_once()

    for failed, status in zip(deliveries(), statuses, strict=True):
        assert failed["status"] == "failed"
        assert [(one["number"], one["status"], one["error"]) for one in failed["tries"]] == [
            (number, status, "refused") for number in range(1, 11)
        ]
    assert sorted(Counter(request.id for request in receiver.received).values()) == [10] * len(statuses)
    assert elsewhere.num_connections == 0


def test_a_receiver_that_hangs_drips_or_never_ends_is_left(
    client: TestClient, endpoint: dict[str, Any], courier: Courier, deliveries: Look, receiver: Receiver
) -> None:
    courier.pauses = (0.0,)
    receiver.answer = lambda _: None
    client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    courier.run_once()
    for speech in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        with talking(speech) as port:
            client.patch(f"/v1/webhook_endpoints/{endpoint['id']}", json={"url": f"http://127.0.0.1:{port}/"})
            client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
            courier.run_once()

    hanging, dripping_headers, endless_body = (one["tries"][0] for one in deliveries())
    assert (hanging["error"], dripping_headers["error"]) == ("timeout", "timeout")
    assert (endless_body["error"], endless_body["status"]) == (None, 200)


def test_nobody_there(
    client: TestClient, endpoint: dict[str, Any], courier: Courier, deliveries: Look
) -> None:
    courier.pauses = (0.0,)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    for url in (f"http://127.0.0.1:{free_port}/", "http://no-such-name.example.invalid/"):
        client.patch(path, json={"url": url})
        client.post(f"{path}/test")
        courier.run_once()

    errors = [one["tries"][0]["error"] for one in deliveries()]
    assert errors == ["connection_refused", "name_not_resolved"]


def test_who_is_gone_is_disabled_and_others_hear_of_it(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier, deliveries: Look
) -> None:
    receiver.answers(410)
    with receiving() as other:
        make_endpoint(client, other.url)
        client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
        courier.run_once()

    shown = client.get(f"/v1/webhook_endpoints/{endpoint['id']}").json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
    assert [(one["status"], len(one["tries"])) for one in deliveries()] == [("failed", 1)]
    (heard,) = (json.loads(request.body) for request in other.received)
    assert heard["type"] == "fusion.webhook_endpoint.disabled"
    assert heard["data"] == {"id": endpoint["id"], "object": "webhook_endpoint", "reason": "gone"}
    refused = client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_endpoint_disabled")


def test_five_days_in_vain_disable_and_enabling_sends_what_waits(
    client: TestClient,
    engine: Engine,
    project_id: str,
    endpoint: dict[str, Any],
    receiver: Receiver,
    courier: Courier,
    deliveries: Look,
) -> None:
    courier.pauses = (0.0, 3600.0, 3600.0)
    receiver.answers(500)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    client.post(f"{path}/test")
    courier.run_once()
    assert client.get(path).json()["enabled"]
    assert client.get(path).json()["failing_since"]
    with transaction(engine) as session:
        session.execute(update(WebhookEndpoint).values(failing_since=db_time(-5 * 86_400 - 1)))
    make_due(engine)
    courier.run_once()
    assert client.get(path).json()["disabled_reason"] == "failing"
    assert [(one["status"], one["next_try_at"]) for one in deliveries()] == [("pending", None)]
    make_due(engine)
    courier.run_once()
    given.submit(engine, project_id)
    assert [len(one["tries"]) for one in deliveries()] == [2]

    receiver.answers(200)
    enabled = client.patch(path, json={"enabled": True}).json()
    courier.run_once()

    assert (enabled["enabled"], enabled["disabled_reason"], enabled["failing_since"]) == (True, None, None)
    assert [one["status"] for one in deliveries()] == ["delivered"]


def test_what_waits_for_a_disabled_endpoint_is_not_due_until_it_is_enabled(
    client: TestClient,
    engine: Engine,
    endpoint: dict[str, Any],
    receiver: Receiver,
    courier: Courier,
    deliveries: Look,
) -> None:
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    for _ in range(3):
        client.post(f"{path}/test")

    client.patch(path, json={"enabled": False})
    held = deliveries()
    client.patch(path, json={"description": "still disabled"})
    courier.run_once()
    client.patch(path, json={"enabled": True})
    offered = deliveries()
    courier.run_once()

    assert [one["next_try_at"] for one in held] == [None] * 3
    assert all(one["next_try_at"] for one in offered)
    assert [one["status"] for one in deliveries()] == ["delivered"] * 3
    assert len(receiver.received) == 3


def test_who_disables_and_enables_at_once_leaves_nothing_that_waits_for_ever(
    client: TestClient, endpoint: dict[str, Any], deliveries: Look
) -> None:
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    for _ in range(3):
        client.post(f"{path}/test")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda turn: client.patch(path, json={"enabled": turn % 2 == 0}), range(12)))

    is_enabled = client.get(path).json()["enabled"]
    assert {answer.status_code for answer in answers} == {200}
    assert {one["next_try_at"] is not None for one in deliveries()} == {is_enabled}


def test_a_receiver_says_when_to_come_back(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier, deliveries: Look
) -> None:
    receiver.answers(503, Retry_After="1000")
    client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    courier.run_once()

    (waiting,) = deliveries()
    assert waiting["next_try_at"] >= waiting["tries"][0]["started_at"] + 999


def test_it_is_sent_again_under_the_same_id(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier, deliveries: Look
) -> None:
    client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    courier.run_once()
    (delivered,) = deliveries()
    receiver.answers(500)
    queued = client.post(f"/v1/webhook_deliveries/{delivered['id']}/redeliver")
    courier.run_once()
    failed = client.get(f"/v1/webhook_deliveries/{delivered['id']}").json()
    receiver.answers(200)
    client.post(f"/v1/webhook_deliveries/{delivered['id']}/redeliver")
    courier.run_once()

    assert (queued.status_code, queued.json()["status"]) == (202, "pending")
    assert (failed["status"], len(failed["tries"])) == ("failed", 11)
    assert [one["status"] for one in deliveries()] == ["delivered"]
    assert {request.id for request in receiver.received} == {delivered["event_id"]}


def test_events_of_a_job_wait_for_each_other_and_for_no_other_job(
    engine: Engine, project_id: str, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    courier.pauses = (0.0, 3600.0)
    ill, well = (given.submit(engine, project_id).id for _ in range(2))
    receiver.answer = lambda request: (500 if ill.encode() in request.body else 200, {}, b"")
    for job_id in (ill, well):
        in_transaction(engine, jobs.request_cancel, project_id=project_id, job_id=job_id)

    courier.run_once()
    receiver.answers(200)
    make_due(engine)
    courier.run_once()

    told = {
        job_id: [
            json.loads(request.body)["type"]
            for request in receiver.received
            if job_id.encode() in request.body
        ]
        for job_id in (ill, well)
    }
    in_order = ["fusion.job.queued", "fine_tuning.job.cancelled"]
    assert told == {ill: ["fusion.job.queued", *in_order], well: in_order}


def test_a_hanging_receiver_holds_up_no_other(
    client: TestClient, endpoint: dict[str, Any], receiver: Receiver, courier: Courier
) -> None:
    arrived = threading.Event()
    receiver.answer = lambda _: None if arrived.wait(30) else (500, {}, b"")
    courier.pauses = (0.0,)

    def arrive(_: Received) -> tuple[int, dict[str, str], bytes]:
        arrived.set()
        return 200, {}, b""

    with receiving(Receiver(answer=arrive)) as other:
        for _ in range(20):
            client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
        healthy = make_endpoint(client, other.url)
        client.post(f"/v1/webhook_endpoints/{healthy['id']}/test")
        sending = threading.Thread(target=courier.run_once)
        sending.start()
        assert arrived.wait(30)
        # Of its twenty, those for which the time of a try ran out before: on a busy machine more than one.
        assert len(receiver.received) < 10
        courier.interrupt()
        receiver.ended.set()
        sending.join()


def test_a_project_with_many_hanging_receivers_holds_up_no_other(
    client: TestClient, engine: Engine, receiver: Receiver, project_id: str
) -> None:
    for _ in range(4):
        made = make_endpoint(client, receiver.url)
        for _ in range(3):
            client.post(f"/v1/webhook_endpoints/{made['id']}/test")
    with transaction(engine) as session:
        other = Project(name="other")
        session.add(other)
        session.flush()
        fields = {"url": receiver.url, "description": "", "event_types": [WebhookType.TEST], "secret": ""}
        session.add(WebhookEndpoint(project_id=other.id, enabled=True, created_by="key-0", **fields))
        session.flush()
        announce(session, project_id=other.id, webhook_type=WebhookType.TEST, data={})

    being_sent = [in_transaction(engine, claim) for _ in range(6)]

    whose = [None if claimed is None else claimed.project_id for claimed in being_sent]
    assert whose == [project_id] * 4 + [other.id, None]


def test_what_was_claimed_and_not_marked_is_sent_again(
    client: TestClient,
    engine: Engine,
    endpoint: dict[str, Any],
    receiver: Receiver,
    courier: Courier,
    deliveries: Look,
) -> None:
    client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    claimed = in_transaction(engine, claim)
    assert claimed is not None
    courier.send(claimed)
    courier.run_once()
    assert len(receiver.received) == 1
    end_leases(engine)
    courier.run_once()

    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert [(one["status"], [t["number"] for t in one["tries"]]) for one in deliveries()] == [
        ("delivered", [2])
    ]


def test_two_processes_send_nothing_twice(
    client: TestClient, engine: Engine, settings: Settings, endpoint: dict[str, Any], receiver: Receiver
) -> None:
    for _ in range(30):
        client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")
    couriers = [make_courier(client, engine, settings) for _ in range(2)]
    for courier in couriers:
        # A try that a busy machine ends is made again, and rightly.
        courier.wire = replace(courier.wire, seconds=30.0)
    threads = [threading.Thread(target=courier.run_once) for courier in couriers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(Counter(request.id for request in receiver.received).values()) == [1] * 30


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_every_event_reaches_a_receiver_that_fails_at_random(
    client: TestClient,
    engine: Engine,
    project_id: str,
    endpoint: dict[str, Any],
    receiver: Receiver,
    settings: Settings,
) -> None:
    chance, accepted = random.Random(7), list[Received]()

    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        status = chance.choice([200, 200, 200, 200, 200, 200, 200, 500, 302, 413])
        if status == 200:
            accepted.append(request)
        return status, {}, b""

    job_ids = [given.submit(engine, project_id).id for _ in range(40)]
    with transaction(engine) as session:
        for seq in range(NUM_EVENTS_PER_JOB):
            for job_id in job_ids:
                announce(
                    session,
                    project_id=project_id,
                    webhook_type=WebhookType.JOB_STARTED,
                    data={"id": job_id, "seq": seq},
                    job_id=job_id,
                    seq=100 + seq,
                )
    receiver.answer = answer
    courier = make_courier(client, engine, settings, pauses=(0.0,) * 60)
    # What is accepted late is sent again, which is right and not the subject here.
    courier.wire = replace(courier.wire, seconds=30.0)
    courier.run_once()

    assert len(accepted) == len({request.id for request in accepted}) == 40 * (1 + NUM_EVENTS_PER_JOB)
    for job_id in job_ids:
        told = [json.loads(one.body)["data"] for one in accepted if job_id.encode() in one.body]
        assert [one.get("seq") for one in told] == [None, *range(NUM_EVENTS_PER_JOB)]


def valid(request: Received, secrets: list[str]) -> list[bool]:
    """Which of the secrets signed the request."""

    def accepts(secret: str) -> bool:
        try:
            Webhook(secret).verify(request.body, request.headers)
        except WebhookVerificationError:
            return False
        return True

    return [accepts(secret) for secret in secrets]


def talking(speech: bytes) -> Any:
    """A server that says something and then drips on for as long as somebody listens."""
    from contextlib import contextmanager

    @contextmanager
    def serve() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def talk() -> None:
                caller, _ = server.accept()
                with caller:
                    try:
                        caller.sendall(speech)
                        while True:
                            caller.sendall(b"x-a: 1\r\n" * (1 if speech.count(b"\n") == 1 else 10_000))
                            threading.Event().wait(0.02)
                    except OSError:
                        return

            thread = threading.Thread(target=talk)
            thread.start()
            yield server.getsockname()[1]
            thread.join()

    return serve()
