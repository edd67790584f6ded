"""What callers send appears in logs and headers as text: no line, no header and no colour of their own."""

import json
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from tests.app.jobs import builders as given

HOSTILE = [
    'x\r\nX-Evil: 1\r\n\r\n{"event": "forged"}',
    'x\n{"event": "forged", "level": "info"}',
    "\x1b[2J\x1b]0;owned\x07\x1b[31m",
    "x\u2028y\u2029z\u0085w",
    "x\r",
    "%0d%0aX-Evil: 1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_is_sent_makes_a_line_or_a_header(
    client: TestClient, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    job_id = client.post("/v1/jobs", json=given.spec_data()).json()["id"]
    webhook = {"url": "https://hooks.example.com/", "description": text}
    capfd.readouterr()
    quoted = quote(text, safe="")

    answers = [
        client.get(f"/v1/jobs/{quoted}"),
        client.get(f"/{quoted}?q={quoted}"),
        client.get("/v1/jobs", params={"text": text, "tag": text, "created_by": text}),
        client.get("/v1/jobs", headers=[(b"X-Request-Id", text.encode()), (b"User-Agent", text.encode())]),
        client.get("/v1/jobs", headers=[(b"Authorization", b"Bearer " + text.encode())]),
        client.post("/v1/jobs", json=given.spec_data(), headers=[(b"Idempotency-Key", text.encode())]),
        client.post("/v1/jobs", json=given.spec_data(name=text)),
        client.post("/v1/jobs", content=b"{}", headers=[(b"Content-Type", text.encode())]),
        client.patch(f"/v1/jobs/{job_id}", json={"name": text, "tags": [text], "metadata": {text: text}}),
        client.post("/v1/api_keys", json={"name": text}),
        client.post("/v1/projects", json={"name": text}),
        client.post("/v1/secrets", json={"name": text, "value": text}),
        client.post("/v1/webhook_endpoints", json=webhook),
        client.post("/v1/files", params={"filename": text}, content=b"x"),
        client.post("/v1/files", files={"file": (text, b"x")}),
    ]

    lines = "".join(capfd.readouterr()).split("\n")
    logged = [json.loads(line) for line in lines if line]
    assert len(logged) >= len(answers)
    assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
    assert "forged" not in {entry["event"] for entry in logged}
    for answer in answers:
        assert answer.status_code < 500, answer.text
        assert "x-evil" not in answer.headers
        assert all(value.isprintable() for value in answer.headers.values())
