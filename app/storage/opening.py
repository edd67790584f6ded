"""From a storage URL to a store."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.store import LocalStore, MemoryStore, from_url

from app.storage.links import make_folder_for_good
from app.storage.object_storage import ObjectStorage
from app.storage.store import ObjectStore
from fusion.errors import UserError

_REMOTE_SCHEMES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
_CLIENT_OPTIONS: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s"}
_RETRY_CONFIG: dict[str, Any] = {"max_retries": 8}


def open_store(url: str) -> ObjectStore:
    """Open the store behind `file:///folder`, `memory://`, `s3://bucket/prefix`, `gs://...` or `az://...`.

    Credentials and endpoints come from each provider's usual environment variables; an endpoint without TLS
    needs `AWS_ALLOW_HTTP=true`.

    Raises:
        UserError: a scheme this service does not know.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return _open_folder(Path(unquote(urlsplit(url).path)))
    if scheme == "memory":
        return ObjectStorage(MemoryStore())
    if scheme in _REMOTE_SCHEMES:
        return ObjectStorage(from_url(url, client_options=_client_options(), retry_config=_RETRY_CONFIG))
    raise UserError(
        f"storage URL {url!r} has scheme {scheme!r}",
        code="storage_url_unknown",
        hint="use file:///absolute/folder, s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix",
    )


def _client_options() -> dict[str, Any]:
    # Options that are given replace those of the environment, so what it says of plain HTTP is given, too.
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return {**_CLIENT_OPTIONS, "allow_http": allow_http}


def _open_folder(root: Path) -> ObjectStore:
    make_folder_for_good(root, mode=0o700)
    return ObjectStorage(LocalStore(prefix=root, mkdir=True), local_root=root)
