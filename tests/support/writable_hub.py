"""A small hub on this machine that takes commits as the Hugging Face Hub does: small files in the commit,
large ones before it over LFS, whole or in parts."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
LARGE = (".safetensors",)


@dataclass
class Repo:
    """`branches`: the commits of each, the newest last, every one with all files as they were."""

    private: bool
    branches: dict[str, list[Files]] = field(default_factory=lambda: {"main": [{".gitattributes": b"lfs"}]})

    def head(self, branch: str) -> Files:
        return self.branches[branch][-1]

    def sha(self, branch: str) -> str:
        return hashlib.sha1(f"{branch} {len(self.branches[branch])}".encode()).hexdigest()


@dataclass(kw_only=True)
class WritableHub:
    """`failures`: statuses that the next requests get. `part_bytes`: of an upload in parts."""

    token: str
    url: str = ""
    part_bytes: int | None = None
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    before_commit: Callable[[], None] = lambda: None
    on_upload: Callable[[], None] = lambda: None
    lock: Lock = field(default_factory=Lock)

    def uploads(self) -> list[str]:
        return [request for request in self.requests if request.startswith("PUT ")]


@contextmanager
def writable_hub(hub: WritableHub) -> Iterator[WritableHub]:
    """Serve it on a free port."""

    class Handler(_Handler):
        the_hub = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


class _Refusal(Exception):
    def __init__(self, status: int, message: str, **more: str) -> None:
        self.status, self.message, self.more = status, message, more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    the_hub: WritableHub

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        hub = self.the_hub
        body = self._body()
        with hub.lock:
            hub.requests.append(f"{self.command} {self.path}")
            failure = hub.failures.pop(0) if hub.failures else None
        try:
            if failure is not None:
                raise _Refusal(failure, "as the test wants it")
            # As on the real one, whoever knows the URL of an upload needs no token.
            is_signed = self.path.startswith(("/upload/", "/whole/"))
            if not is_signed and self.headers.get("Authorization") != f"Bearer {hub.token}":
                raise _Refusal(401, f"who is {self.headers.get('Authorization')}?")
            told, headers = self._told(unquote(urlsplit(self.path).path), body)
        except _Refusal as refusal:
            headers = {"X-Error-Message": refusal.message}
            return self._send(refusal.status, {"error": refusal.message, **refusal.more}, headers)
        return self._send(200, told, headers)

    def _told(self, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        for pattern, act in _ROUTES:
            if match := re.fullmatch(pattern, path):
                found = act(self, body, *match.groups())
                return found if isinstance(found, tuple) else (found, {})
        raise _Refusal(404, f"no such path: {path}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, told: Any, headers: dict[str, str]) -> None:
        data = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _repo(self, name: str) -> Repo:
        if name not in self.the_hub.repos:
            raise _Refusal(404, f"no repository {name}")
        return self.the_hub.repos[name]

    # What the hub does

    def create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.the_hub.repos:
            raise _Refusal(409, "it is there already", url=f"{self.the_hub.url}/{name}")
        self.the_hub.repos[name] = Repo(private=asked.get("visibility") == "private")
        return {"url": f"{self.the_hub.url}/{name}"}

    def create_branch(self, _: bytes, name: str, branch: str) -> Any:
        repo = self._repo(name)
        if branch in repo.branches:
            raise _Refusal(409, "it is there already")
        repo.branches[branch] = [repo.head("main")]
        return {}

    def show(self, _: bytes, name: str, branch: str) -> Any:
        repo = self._repo(name)
        files = [
            {"rfilename": path, "size": len(data), "blobId": _git_id(data)}
            for path, data in repo.head(branch).items()
        ]
        return {"id": name, "sha": repo.sha(branch), "siblings": files, "private": repo.private}

    def validate(self, _: bytes) -> Any:
        return {"errors": [], "warnings": []}

    def preupload(self, body: bytes, name: str, _: str) -> Any:
        self._repo(name)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        return {"files": modes}

    def batch(self, body: bytes, _: str) -> Any:
        hub, part_bytes = self.the_hub, self.the_hub.part_bytes
        objects = []
        for asked in json.loads(body)["objects"]:
            oid, size = asked["oid"], asked["size"]
            told: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in hub.objects:
                upload: dict[str, Any] = {"href": f"{hub.url}/upload/{oid}"}
                if part_bytes is not None:
                    parts = range(1, -(-size // part_bytes) + 1)
                    urls = {f"{part:05d}": f"{hub.url}/upload/{oid}?part={part}" for part in parts}
                    upload = {
                        "href": f"{hub.url}/whole/{oid}",
                        "header": {**urls, "chunk_size": str(part_bytes)},
                    }
                told["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/verify"}}
            objects.append(told)
        return {"transfer": "basic" if part_bytes is None else "multipart", "objects": objects}

    def upload(self, body: bytes, oid: str) -> Any:
        self.the_hub.on_upload()
        part = parse_qs(urlsplit(self.path).query).get("part", [""])[0]
        with self.the_hub.lock:
            self.the_hub.objects[oid + part.zfill(5) if part else oid] = body
        return {}, {"ETag": hashlib.md5(body).hexdigest()}

    def whole(self, body: bytes, oid: str) -> Any:
        parts = [part["partNumber"] for part in json.loads(body)["parts"]]
        objects = self.the_hub.objects
        objects[oid] = b"".join(objects.pop(f"{oid}{part:05d}") for part in sorted(parts))
        return {}

    def verify(self, body: bytes) -> Any:
        asked = json.loads(body)
        data = self.the_hub.objects.get(asked["oid"], b"")
        if hashlib.sha256(data).hexdigest() != asked["oid"] or len(data) != asked["size"]:
            raise _Refusal(400, "other bytes than were announced")
        return {}

    def commit(self, body: bytes, name: str, branch: str) -> Any:
        repo = self._repo(name)
        self.the_hub.before_commit()
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(repo.head(branch))
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    if value.get("parentCommit") not in (None, repo.sha(branch)):
                        raise _Refusal(412, "the branch has another commit by now")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.the_hub.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        repo.branches[branch].append(files)
        sha = repo.sha(branch)
        return {"commitOid": sha, "commitUrl": f"{self.the_hub.url}/{name}/commit/{sha}", "success": True}


_NAME = r"([\w-]+/[\w.-]+)"
_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"/api/repos/create", _Handler.create),
    (rf"/api/models/{_NAME}/branch/(.+)", _Handler.create_branch),
    (rf"/api/models/{_NAME}/revision/(.+)", _Handler.show),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"/upload/(\w+)", _Handler.upload),
    (r"/whole/(\w+)", _Handler.whole),
    (r"/verify", _Handler.verify),
    (rf"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
]


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\x00" % len(data) + data).hexdigest()
