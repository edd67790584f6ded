"""What surrounds the database: broker, storage, disk, and settings that contradict each other."""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import redis
from sqlalchemy.engine import make_url

from app.operations.doctor.findings import Finding, error, ok, warning
from app.queue import PUBLISH_TIMEOUT_SECONDS
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import ObjectStore
from fusion.errors import FusionError

_LOW_BYTES: Final = 5_000_000_000
_LOW_SHARE: Final = 0.05


def check_broker(settings: Settings) -> Iterator[Finding]:
    """It answers in time."""
    if settings.broker_url is None:
        yield ok("broker", "none; workers poll the database")
        return
    timeouts = {"socket_timeout": PUBLISH_TIMEOUT_SECONDS, "socket_connect_timeout": PUBLISH_TIMEOUT_SECONDS}
    try:
        with redis.Redis.from_url(settings.broker_url, **timeouts) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as failure:
        yield warning(
            "broker",
            f"it does not answer: {failure}",
            hint="start Redis or mend FUSION_BROKER_URL; workers poll meanwhile, and nothing is lost",
        )
    else:
        yield ok("broker", "it answers")


def check_storage(settings: Settings) -> Iterator[Finding]:
    """A small object can be written, is not overwritten, is read back right, and can be deleted."""
    key = f"doctor/{secrets.token_hex(8)}"
    try:
        store = open_store(settings.storage_url)
        try:
            yield from _probe(store, key)
        finally:
            store.delete(key)
        if store.size(key) is not None:
            yield error(
                "storage", "what was deleted is still there", hint="allow the credentials to delete objects"
            )
    except (FusionError, OSError) as failure:
        yield error(
            "storage",
            f"{settings.storage_url} cannot be used: {failure}",
            hint="check the URL, its credentials and the free space",
        )


def _probe(store: ObjectStore, key: str) -> Iterator[Finding]:
    data = secrets.token_bytes(1000)
    store.create(key, data)
    with tempfile.TemporaryDirectory() as folder:
        store.get_file(key, Path(folder) / "probe", sha256=sha256(data).hexdigest())
    yield ok("storage", "a probe was written, read and deleted")
    if store.create(key, b"other"):
        yield warning(
            "conditional put",
            "the store overwrites although it was asked not to",
            hint="artifacts stay right, for their keys are digests; an S3 that knows If-None-Match is better",
        )
    else:
        yield ok("conditional put", "the store refuses to overwrite")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Free space where workspaces, uploads and a local store lie."""
    folders = {"data folder": settings.data_dir}
    if urlsplit(settings.storage_url).scheme == "file":
        folders["storage folder"] = Path(unquote(urlsplit(settings.storage_url).path))
    for name, folder in folders.items():
        if not folder.is_dir():
            yield warning("disk", f"the {name} {folder} is not there yet", hint="it is made on first use")
            continue
        usage = shutil.disk_usage(folder)
        free = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free under the {name} {folder}"
        if usage.free < min(_LOW_BYTES, _LOW_SHARE * usage.total):
            yield error("disk", free, hint="`fusion gc` may free some; else enlarge the disk")
        else:
            yield ok("disk", free)


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Settings that are valid one by one and contradict each other."""
    found = list(_contradictions(settings))
    yield from found or [ok("settings", "nothing contradicts")]


def _contradictions(settings: Settings) -> Iterator[Finding]:
    on_sqlite = make_url(settings.database_url).get_backend_name() == "sqlite"
    scheme = urlsplit(settings.storage_url).scheme
    if scheme == "memory":
        yield error(
            "settings",
            "the storage is the memory of one process: its files are gone with it, and workers see none",
            hint="set FUSION_STORAGE_URL to file:///... or s3://...",
        )
    if on_sqlite and (settings.broker_url is not None or scheme not in ("file", "memory")):
        yield warning(
            "settings",
            "the database is a SQLite file, while broker or storage are made for several machines",
            hint="use PostgreSQL once a process runs on another machine; SQLite breaks on a network disk",
        )
    if settings.reconcile_seconds > settings.lease_seconds:
        yield warning(
            "settings",
            f"reconcile_seconds ({settings.reconcile_seconds:g}) exceeds lease_seconds "
            f"({settings.lease_seconds}): a lost step waits longer than its lease",
            hint="lower FUSION_RECONCILE_SECONDS",
        )
    for root in settings.allowed_roots:
        if not root.is_dir():
            yield warning(
                "settings",
                f"the allowed root {root} is not a folder on this machine",
                hint="mount it on every worker, or take it out of FUSION_ALLOWED_ROOTS",
            )
    for given, file in (
        (settings.key_pepper, settings.key_pepper_file),
        (settings.sealing_key, settings.sealing_key_file),
    ):
        if given is None and file.is_file():
            if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                yield error("settings", f"others can read {file}", hint=f"chmod 600 {file}")
            elif not os.access(file, os.R_OK):
                yield error("settings", f"{file} cannot be read", hint="run as the user of the API")
