"""Sends a model to a folder of a bucket. The manifest comes last: where it is, everything is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from app.publications.destinations import BucketDestination
from app.publications.model_files import WEIGHTS, ModelFiles
from app.publications.outcomes import Place, Refused, Unreachable, outcome_of_status

_MARK: Final = ".publishing"
"""Holds the digest of the model of which some files may be there."""
_PART_BYTES: Final = 8 << 20
_MAX_CONCURRENT_PARTS: Final = 4
_MAX_SHOWN: Final = 500
_MAX_LISTED: Final = 1000
_STATUS: Final = re.compile(r"status code: (\d{3})")
_SAID: Final = (re.compile(r"<Code>([^<]*)</Code>"), re.compile(r"<Message>([^<]*)</Message>"))
_RETRY_CONFIG: Final[dict[str, Any]] = {"max_retries": 3}


def send_to_bucket(
    destination: BucketDestination, files: ModelFiles, *, secret_access_key: str, digest: str
) -> Place:
    """Put every file. A folder that holds the model already is left alone.

    Args:
        digest: of the model's files.

    Raises:
        Refused: the folder holds something else, or the bucket does not let the secret in.
        Unreachable: the bucket cannot be reached.
    """
    place = Place(url=destination.url.rstrip("/"), revision=digest)
    with _told():
        store = _open(destination, secret_access_key=secret_access_key)
        manifest = files.content(files.manifest_file)
        if _content(store, files.manifest_file.path, at_most=len(manifest)) == manifest:
            return place
        stale = _clear(store, files, digest=digest, may_replace=destination.overwrite)
        for file in files.all:
            # It appears when the block ends, and not when it is left by an error.
            with obstore.open_writer(
                store, file.path, buffer_size=_PART_BYTES, max_concurrency=_MAX_CONCURRENT_PARTS
            ) as writer:
                for piece in files.pieces(file):
                    writer.write(piece)
        obstore.delete(store, [*stale, _MARK])
    return place


def _clear(store: Any, files: ModelFiles, *, digest: str, may_replace: bool) -> list[str]:
    """Claim the folder for this model; the files of another one that would be taken for its own.

    Raises:
        Refused: it is somebody else's.
    """
    there = [meta["path"] for page in obstore.list(store) for meta in page][:_MAX_LISTED]
    begun = _content(store, _MARK, at_most=len(digest)) == digest.encode()
    if there and not begun and not may_replace:
        raise Refused(f"the folder holds other files, such as {sorted(there)[0]}", code="destination_taken")
    obstore.put(store, _MARK, digest.encode())
    # From here on the folder is not whole, and must not look so.
    if files.manifest_file.path in there:
        obstore.delete(store, files.manifest_file.path)
    return [name for name in there if name not in files.names and name.endswith(WEIGHTS)]


def _content(store: Any, path: str, *, at_most: int) -> bytes | None:
    """What an object holds; None where there is none, or a larger one."""
    try:
        if obstore.head(store, path)["size"] > at_most:
            return None
        return bytes(obstore.get(store, path).bytes())
    except (NotFoundError, FileNotFoundError):
        return None


def _open(destination: BucketDestination, *, secret_access_key: str) -> Any:
    """The folder. What the environment says of the service's own store must not play a part."""
    parts = urlsplit(destination.url)
    bucket, endpoint = parts.netloc, destination.endpoint
    is_aws = endpoint is None
    return S3Store(
        bucket,
        prefix=parts.path.strip("/") or None,
        region=destination.region,
        endpoint=f"https://{bucket}.s3.{destination.region}.amazonaws.com" if is_aws else endpoint,
        virtual_hosted_style_request=is_aws,
        skip_signature=False,
        request_payer=False,
        credential_provider=lambda: {
            "access_key_id": destination.access_key_id,
            "secret_access_key": secret_access_key,
            "token": None,
            "expires_at": None,
        },
        client_options={
            "connect_timeout": "10s",
            "timeout": "120s",
            "allow_http": not is_aws and urlsplit(endpoint or "").scheme == "http",
        },
        retry_config=_RETRY_CONFIG,
    )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise _outcome(error) from error


def _outcome(error: Exception) -> Exception:
    """The library tells statuses, and what the server says, only in its message."""
    text = str(error)
    status = _STATUS.search(text)
    said = [match[1] for pattern in _SAID if (match := pattern.search(text))]
    told = (": ".join(said) or text)[:_MAX_SHOWN]
    if status is not None:
        return outcome_of_status(int(status[1]), told)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return outcome_of_status(403, told)
    return Unreachable(f"the bucket cannot be reached: {told}")
