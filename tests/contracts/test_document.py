"""The OpenAPI document says what is true, of every route alike, and changes only when somebody means it."""

import re
from typing import Any

import pytest

from app.accounts.access import OPEN_PATHS, needed_scope
from app.api_document import SCOPE_FIELD, SECURITY_SCHEME, operations_of
from tests.contracts.document import current_document

Operations = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return current_document()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> Operations:
    return list(operations_of(document))


def test_operations_have_names_of_their_own(operations: Operations) -> None:
    names = [operation["operationId"] for _, _, operation in operations]

    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)


def test_every_guarded_operation_says_its_key_and_scope(
    document: dict[str, Any], operations: Operations
) -> None:
    assert document["components"]["securitySchemes"][SECURITY_SCHEME]["scheme"] == "bearer"
    for method, path, operation in operations:
        if path in OPEN_PATHS:
            assert "security" not in operation, f"{method} {path}"
            continue
        assert operation["security"] == [{SECURITY_SCHEME: []}], f"{method} {path}"
        assert operation[SCOPE_FIELD] == needed_scope(method, path), f"{method} {path}"
        assert {"401", "404"} <= set(operation["responses"]), f"{method} {path}"
        assert operation[SCOPE_FIELD] is None or "403" in operation["responses"], f"{method} {path}"


def test_every_refusal_is_a_problem(document: dict[str, Any], operations: Operations) -> None:
    for method, path, operation in operations:
        for status, response in operation["responses"].items():
            if status < "400" or (path, status) == ("/readyz", "503"):
                continue
            shared = response["$ref"].rpartition("/")[2] if "$ref" in response else None
            content = (
                document["components"]["responses"][shared]["content"] if shared else response["content"]
            )
            assert set(content) == {"application/problem+json"}, f"{method} {path} {status}"


def test_every_json_body_has_an_example(document: dict[str, Any], operations: Operations) -> None:
    without = [
        f"{method} {path}"
        for method, path, operation in operations
        for media_type, media in operation.get("requestBody", {}).get("content", {}).items()
        if media_type.endswith("json") and not has_example(document, media)
    ]

    assert without == []


def has_example(document: dict[str, Any], media: dict[str, Any]) -> bool:
    """Whether a body has one, or a schema that it may have."""
    names = re.findall(r"#/components/schemas/(\w+)", str(media["schema"]))
    places = [media, *(document["components"]["schemas"][name] for name in names)]
    return any({"example", "examples"} & set(place) for place in places)


def test_every_operation_is_told_in_words_under_a_tag(
    document: dict[str, Any], operations: Operations
) -> None:
    told = {tag["name"]: tag["description"] for tag in document["tags"]}

    assert [f"{method} {path}" for method, path, one in operations if not one.get("description")] == []
    assert {tag for _, _, one in operations for tag in one["tags"]} == set(told)
    assert [name for name, description in told.items() if description == name] == []
