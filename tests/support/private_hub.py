"""A small hub on this machine that lets in who has the token, and shows everybody else what they sent.

Without a token it lets everybody in.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

TREE = re.compile(r"/api/(?:models|datasets)/(\w+(?:/\w+)?)/tree/([0-9a-f]{40})")
FILE = re.compile(r"/(?:datasets/)?(\w+(?:/\w+)?)/resolve/([0-9a-f]{40})/(.+)")


@dataclass(kw_only=True)
class PrivateHub:
    """`folders`: checkpoints and datasets by repository. `tokens_seen`: what came as authorization.

    `more_names`: what every tree lists beside the files of its folder.
    """

    token: str
    folders: dict[str, Path]
    url: str = ""
    more_names: tuple[str, ...] = ()
    tokens_seen: set[str] = field(default_factory=set)
    paths_asked: list[str] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None


@contextmanager
def private_hub(hub: PrivateHub) -> Iterator[PrivateHub]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, *, with_body: bool) -> None:
            hub.on_request()
            authorization = self.headers.get("Authorization", "")
            hub.tokens_seen.add(authorization.removeprefix("Bearer "))
            path = self.path.partition("?")[0]
            hub.paths_asked.append(path)
            if hub.token and authorization != f"Bearer {hub.token}":
                told = {"X-Error-Message": f"cannot let {authorization} in"}
                return self._send(500, b"{}", told, with_body=with_body)
            if match := TREE.fullmatch(path):
                folder = hub.folders.get(match[1])
                if folder is None:
                    return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body=with_body)
                files = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
                names = {path.relative_to(folder).as_posix(): size for path, size in files.items()}
                names |= dict.fromkeys(hub.more_names, 1)
                tree = [
                    {"type": "file", "path": name, "size": size, "oid": "0" * 40}
                    for name, size in names.items()
                ]
                return self._send(200, json.dumps(tree).encode(), {}, with_body=with_body)
            match = FILE.fullmatch(path)
            assert match is not None, path
            data = (hub.folders[match[1]] / match[3]).read_bytes()
            told = {"ETag": f'"{sha256(data).hexdigest()}"', "X-Repo-Commit": match[2]}
            return self._send(200, data, told, with_body=with_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()
        thread.join()
