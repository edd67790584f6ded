"""What a scope includes."""

from pathlib import Path

import pytest

from app.accounts.scopes import Scope, covers

READING = [scope for scope in Scope if scope.value.endswith(":read")]
WRITING = [scope for scope in Scope if scope.value.endswith(":write")]
SINGLE = [*READING, *WRITING]


@pytest.mark.parametrize("scope", SINGLE)
def test_a_single_scope_covers_itself_and_nothing_else(scope: Scope) -> None:
    assert [other for other in Scope if covers({scope}, other)] == [scope]


def test_a_bundle_covers_all_of_its_kind() -> None:
    assert {scope for scope in Scope if covers({Scope.READ}, scope)} == {Scope.READ, *READING}
    assert {scope for scope in Scope if covers({Scope.WRITE}, scope)} == {Scope.WRITE, *WRITING}


def test_an_admin_may_everything_in_the_project_and_an_operator_only_operates() -> None:
    assert {scope for scope in Scope if not covers({Scope.ADMIN}, scope)} == {Scope.OPERATOR}
    assert {scope for scope in Scope if covers({Scope.OPERATOR}, scope)} == {Scope.OPERATOR}


def test_every_scope_is_explained() -> None:
    table = (Path(__file__).parents[3] / "docs" / "access.md").read_text()

    assert [scope for scope in Scope if f"`{scope.value}`" not in table] == []


def test_a_key_without_scopes_may_nothing() -> None:
    assert not any(covers(set(), scope) for scope in Scope)
