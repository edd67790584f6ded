"""Webhooks reach the public, and what an operator opens; nothing else, whatever an URL looks like."""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from app.accounts.bootstrap import ensure_admin_key
from app.db import migrate
from app.db.session import create_engine
from app.main import create_app
from app.settings import Settings
from app.webhooks.reach import Address, Reach, Target, UrlRefused, read_url
from app.webhooks.wire import Undelivered, Wire
from tests.app.webhooks.conftest import make_courier
from tests.app.webhooks.nasty_urls import SPELLINGS_OF_LOOPBACK, nasty_urls
from tests.support.receivers import receiving
from tests.support.tls import certified

ANY_PORT = Reach(allows_http=True, ports=frozenset())


class Listener:
    """Counts connections to a loopback port, over IPv4 and IPv6."""

    def __init__(self) -> None:
        self.num_connections = 0
        self._server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:
                return
            self.num_connections += 1
            caller.close()

    def stop(self) -> int:
        """How many connections there were."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        return self.num_connections


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    if found._thread.is_alive():
        found.stop()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An operator allows http and every port: nothing but the addresses is checked."""
    opened = {"data_dir": tmp_path, "webhook_allow_http": True, "webhook_ports": ""}
    return Settings.model_validate(opened)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = create_engine(settings.database_url)
    migrate.upgrade_engine(engine)
    yield engine
    engine.dispose()


def test_no_nasty_url_makes_a_connection(settings: Settings, engine: Engine, listener: Listener) -> None:
    app = create_app(settings)
    key = ensure_admin_key(engine, path=settings.data_dir / "admin_key", pepper=app.state.key_pepper)
    client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
    path = f"/v1/webhook_endpoints/{client.post('/v1/webhook_endpoints', json=PUBLIC).json()['id']}"
    statuses = dict[str, int]()
    for url in nasty_urls(listener.port):
        answer = client.patch(path, json={"url": url})
        statuses[url] = answer.status_code
        assert answer.status_code in (200, 422), f"{url}: {answer.text}"
        if answer.is_success:
            client.post(f"{path}/test")
    client.patch(path, json={"enabled": True})
    make_courier(client, engine, settings, pauses=(0.0,)).run_once()
    app.state.engine.dispose()

    assert len(statuses) > 150
    assert [url for url, status in statuses.items() if status == 200] == []
    assert listener.stop() == 0


def test_the_wire_itself_refuses_what_a_name_leads_to(listener: Listener) -> None:
    """Whatever an URL passed: here every spelling is taken for a name, and the system resolves it."""
    wire = Wire(reach=ANY_PORT, ssl_context=ssl.create_default_context(), seconds=2)
    refusals = dict[str, str]()
    for host in filter(str.isascii, SPELLINGS_OF_LOOPBACK):
        target = Target(scheme="http", host=host.strip("[]"), port=listener.port, path="/")
        with pytest.raises(Undelivered) as refused:
            wire.post(target, headers={}, body=b"{}")
        refusals[host] = refused.value.code

    assert set(refusals.values()) == {"address_refused", "name_not_resolved"}
    assert {host for host, code in refusals.items() if code == "address_refused"} >= {
        "127.1",
        "2130706433",
        "0x7f.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
    }

    assert listener.stop() == 0


def test_a_name_that_changes_its_mind_is_checked_again(listener: Listener) -> None:
    """The first answer is an address that is open; the next one is not, and neither is asked for twice."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]])
    asked: list[str] = []

    def flip(host: str, _port: int) -> Sequence[Address]:
        asked.append(host)
        return [ipaddress.ip_address(text) for text in next(answers)]

    reach = Reach(allows_http=True, ports=frozenset(), networks=(ipaddress.IPv4Network("127.0.0.2/32"),))
    wire = Wire(reach=reach, ssl_context=ssl.create_default_context(), resolver=flip, seconds=5)
    with receiving(address="127.0.0.2") as receiver:
        target = read_url(f"http://flip.example.com:{receiver.port}/hook", reach)
        assert wire.post(target, headers={}, body=b"{}").status == 204
        for _ in range(2):
            with pytest.raises(Undelivered, match="not public"):
                wire.post(replace(target, port=listener.port), headers={}, body=b"{}")

    assert receiver.received[0].headers["host"] == f"flip.example.com:{receiver.port}"
    assert asked == ["flip.example.com"] * 3
    assert listener.stop() == 0


def test_the_name_of_the_url_is_in_sni_and_certificate(tmp_path: Path) -> None:
    authority, server = certified(tmp_path, "hooks.example.com")
    reach = Reach(ports=frozenset(), networks=(ipaddress.IPv4Network("127.0.0.1/32"),))
    wire = Wire(
        reach=reach,
        ssl_context=ssl.create_default_context(cadata=authority),
        resolver=lambda *_: [ipaddress.ip_address("127.0.0.1")],
        seconds=10,
    )
    asked: list[str] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    with receiving(tls=server) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/hook?a=1"
        assert wire.post(read_url(url, reach), headers={}, body=b"{}").is_success
        with pytest.raises(Undelivered, match="TLS failed") as refused:
            wire.post(read_url(url.replace("hooks", "other"), reach), headers={}, body=b"{}")

    assert asked == ["hooks.example.com", "other.example.com"]
    assert [request.path for request in receiver.received] == ["/hook?a=1"]
    assert receiver.received[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert refused.value.code == "tls_failed"


def test_a_time_limit_holds_over_connection_tls_and_answer(tmp_path: Path) -> None:
    reach = Reach(allows_http=True, ports=frozenset(), networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
    wire = Wire(reach=reach, ssl_context=ssl.create_default_context(), seconds=0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        started = time.monotonic()
        with pytest.raises(Undelivered) as refused:
            wire.post(read_url(url, reach), headers={}, body=b"{}")

    assert refused.value.code == "timeout"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com:443/a/b?c=d&e=%20",
        "https://HOOKS.example.com/",
        "https://xn--mnchen-3ya.example/",
        "https://a_b.example.com/",
        "https://1password.example.com/",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/",
    ],
)
def test_public_urls_are_fine(url: str) -> None:
    target = read_url(url, Reach())

    assert (target.scheme, target.port) == ("https", 443)
    assert target.host == target.host.lower()
    assert target.path.startswith("/")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.com/", "expected https"),
        ("https://hooks.example.com:8443/", "port 8443 is not open for webhooks; 443 is"),
        ("https://user:pass@hooks.example.com/", "no user"),
        ("https://hooks.example.com/#x", "no fragment"),
        ("https://münchen.example/", "punycode"),
        ("https://hooks/", "not a public name"),
    ],
)
def test_a_refusal_says_why(url: str, why: str) -> None:
    with pytest.raises(UrlRefused, match=why):
        read_url(url, Reach())


def test_an_operator_opens_http_ports_and_networks() -> None:
    settings = Settings.model_validate(
        {
            "webhook_allow_http": "true",
            "webhook_ports": "443, 9000",
            "webhook_networks": "10.1.0.0/16, fd00::/8",
        }
    )
    reach = Reach.of(settings)

    assert read_url("http://receiver:9000/", reach).authority == "receiver:9000"
    assert read_url("https://[fd00::1]/", reach).authority == "[fd00::1]"
    assert reach.may_reach(ipaddress.ip_address("10.1.2.3"))
    for text in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3", "fe80::1"):
        assert not reach.may_reach(ipaddress.ip_address(text))


PUBLIC = {"url": "https://hooks.example.com/"}
