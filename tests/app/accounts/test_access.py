"""Every route says who may use it, and means it."""

import pytest

from app.accounts.access import OPEN_PATHS, needed_scope
from app.accounts.scopes import Scope, covers
from tests.support.api import Api, make_api
from tests.support.route_table import Route, routes_of

NOBODYS_ID = "x-0000000000000000000000000"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    return make_api(tmp_path_factory.mktemp("access"))


def guarded(api: Api) -> list[Route]:
    return [route for route in routes_of(api.app) if route.path not in OPEN_PATHS]


def call(api: Api, route: Route, headers: dict[str, str]) -> tuple[int, dict[str, object]]:
    url = route.url(dict.fromkeys(route.parameters, NOBODYS_ID))
    answer = api.client.request(route.method, url, headers=headers)
    is_json = answer.headers.get("content-type", "").endswith("json") and answer.content
    return answer.status_code, answer.json() if is_json else {}


def test_every_route_needs_a_scope_that_is_written_down(api: Api) -> None:
    for route in guarded(api):
        # Raises and says what to do for a route that nobody thought of.
        needed_scope(route.method, route.path)


def test_without_a_key_only_the_open_routes_answer(api: Api) -> None:
    routes = routes_of(api.app)
    assert {route.path for route in routes} >= OPEN_PATHS

    for route in routes:
        status, _ = call(api, route, {})
        assert (status == 401) is (route.path not in OPEN_PATHS), (
            f"{route} answers {status} without a key: include its router among _GUARDED_ROUTERS in "
            "app/main.py, or, if everybody may call it, add its path to OPEN_PATHS in app/accounts/access.py"
        )


def test_a_key_with_every_other_scope_is_refused_and_told_which_one_it_needs(api: Api) -> None:
    for route in guarded(api):
        needed = needed_scope(route.method, route.path)
        if needed is None:
            continue
        others = [scope for scope in Scope if not covers({scope}, needed)]

        status, problem = call(api, route, api.key(*others))

        assert status == 403, f"{route} lets keys without {needed} in: {status} {problem}"
        if route.method != "HEAD":
            assert problem["code"] == "scope_missing"
            assert f"'{needed}'" in str(problem["detail"])


def test_a_key_with_just_that_scope_is_let_in(api: Api) -> None:
    for route in guarded(api):
        needed = needed_scope(route.method, route.path)
        key = api.key(needed or Scope.SECRETS_READ)

        status, problem = call(api, route, key)

        assert status not in (401, 403), f"{route} refuses a key with {needed}: {problem}"


def test_a_route_that_nobody_thought_of_is_refused() -> None:
    with pytest.raises(LookupError, match=r"app/accounts/access\.py"):
        needed_scope("GET", "/v1/surprises/{id}")
    with pytest.raises(LookupError):
        needed_scope("GET", "/v1/jobsandmore")
