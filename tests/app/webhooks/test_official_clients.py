"""OpenAI's official clients read the webhooks as docs/webhooks.md says."""

import json
import subprocess
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.webhooks.courier import Courier
from tests.app.jobs import builders as given
from tests.app.openai_face.test_official_clients import VERSIONS
from tests.support.environments import environment
from tests.support.receivers import Receiver

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SCRIPT = """
import json, sys
from openai import InvalidWebhookSignatureError, OpenAI
given = json.load(sys.stdin)
def unwrap(body, secret):
    event = OpenAI(api_key="none", webhook_secret=secret).webhooks.unwrap(body, given["headers"])
    return [event.id, event.type, event.data.id]
told = unwrap(given["body"], given["secret"])
try:
    unwrap(given["body"] + " ", given["secret"])
except InvalidWebhookSignatureError:
    told.append("forged")
print(json.dumps(told))
"""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_unwraps_a_webhook_and_refuses_a_forged_one(
    version: str,
    engine: Engine,
    project_id: str,
    client: TestClient,
    endpoint: dict[str, Any],
    receiver: Receiver,
    courier: Courier,
) -> None:
    job = given.submit(engine, project_id)
    given.run_to_end(engine)
    courier.run_once()
    last = receiver.received[-1]

    words = {"headers": dict(last.headers), "body": last.body.decode(), "secret": endpoint["secret"]}
    done = subprocess.run(
        [environment(f"openai=={version}"), "-c", SCRIPT],
        input=json.dumps(words),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [last.id, "fine_tuning.job.succeeded", job.id, "forged"]
