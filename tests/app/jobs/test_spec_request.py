"""Reading specs from requests."""

import json
from typing import Any

import pytest
import yaml

from app.errors import BadRequest, Unprocessable, UnsupportedMediaType
from app.jobs.spec_request import read_spec
from tests.app.jobs.builders import REVISION, spec_data

MODEL = {"hub": "org/mpt", "revision": REVISION}


def read_json(data: Any) -> Any:
    return read_spec(json.dumps(data).encode(), media_type="application/json")


def test_json_and_yaml_say_the_same() -> None:
    as_yaml = read_spec(yaml.safe_dump(spec_data()).encode(), media_type="application/yaml")

    assert as_yaml == read_json(spec_data())


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"colour": 1}, "/colour", "there is no field 'colour'"),
        ({"strategy": {"preset": "best"}}, "/strategy/preset", "'default' or 'paper'"),
        ({"seed": "1"}, "/seed", "valid integer"),
        ({"sources": []}, "/sources", "at least 1"),
        ({"sources": [{"name": "target", "model": MODEL}]}, "/sources/0/name", "reserved"),
        ({"target": {"model": MODEL}}, "/sources/0/model", "target itself"),
        ({"target": {"model": {"hub": "org/x"}}}, "/target/model", "needs revision"),
        ({"strategy": {"blending": {"rule": "weighted"}}}, "/strategy/blending/rule", "blending.weights"),
        ({"corpus": {}}, "/corpus", "either files or dataset"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], pointer: str, words: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read_json(spec_data(**changes))

    assert caught.value.code == "spec_invalid"
    assert [problem.pointer for problem in caught.value.errors] == [pointer]
    assert words in caught.value.errors[0].detail
    assert "Value error" not in caught.value.detail


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Unprocessable) as caught:
        read_json(spec_data(seed=-1, name="NOT A SLUG", colour=1))

    assert {problem.pointer for problem in caught.value.errors} == {"/seed", "/name", "/colour"}


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"seed": 1' + b"0" * 5000 + b"}"])
def test_text_that_is_not_json(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        read_spec(body, media_type="application/json")


@pytest.mark.parametrize("body", [b"a: [", b"\xff", b"!!python/object:os.system {}", b"a: &x [*x"])
def test_text_that_is_not_yaml(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid YAML"):
        read_spec(body, media_type="application/yaml")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null"])
def test_json_that_is_no_mapping(body: bytes) -> None:
    with pytest.raises(Unprocessable, match="api_version: fusion/v1"):
        read_spec(body, media_type="application/json")


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_a_database_cannot_hold(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read_json(spec_data(corpus={"files": [{"path": text}]}))

    assert [problem.pointer for problem in caught.value.errors] == ["/corpus/files/0/path"]


def test_another_format_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="text/csv"):
        read_spec(b"a,b", media_type="text/csv")
