"""`/docs` tells everything of the document and loads nothing."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api_examples import ANSWERS, refusal_example
from app.api_page import page_of
from app.errors import Unprocessable
from app.main import create_app
from app.settings import Settings


class Reader(HTMLParser):
    """Collects tags, ids and links of a page that must be well formed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = set[str]()
        self.ids = list[str]()
        self.links = set[str]()
        self.open = list[str]()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attributes)
        self.ids += [found["id"]] if found.get("id") else []
        self.links |= {found[name] or "" for name in ("href", "src") if name in found}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(Settings(data_dir=tmp_path))


def test_the_page_tells_of_every_operation_and_loads_nothing(app: FastAPI) -> None:
    answer = TestClient(app).get("/docs")
    reader = Reader()
    reader.feed(answer.text)

    document = app.openapi()
    operations = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    assert reader.open == []
    assert set(reader.ids) == operations | set(document["components"]["schemas"])
    assert len(reader.ids) == len(set(reader.ids))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert not reader.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?://[^<]*\.(js|css)", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_shows_what_answers_and_refusals_look_like(app: FastAPI) -> None:
    page = unescape(TestClient(app).get("/docs").text)

    for example in (ANSWERS["GET /v1/jobs/{job_id}"][200], refusal_example(Unprocessable)):
        assert json.dumps(example, indent=2) in page


def test_what_a_document_says_is_text(app: FastAPI) -> None:
    document = app.openapi()
    hostile = "<script>alert(1)</script>\"'&"
    told = {
        **document,
        "info": {**document["info"], "title": hostile, "summary": hostile},
        "tags": [{"name": hostile, "description": hostile}],
        "paths": {
            f"/{hostile}": {
                "get": {
                    "operationId": hostile,
                    "tags": [hostile],
                    "description": f"{hostile}\n\n{hostile}",
                    "parameters": [{"name": hostile, "in": "query", "schema": {"enum": [hostile]}}],
                    "requestBody": {"content": {hostile: {"schema": {"type": hostile}, "example": hostile}}},
                    "responses": {"200": {"description": hostile}},
                }
            }
        },
    }

    assert "<script" not in page_of(told)
