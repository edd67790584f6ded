"""Sends a model to a folder of a bucket. The manifest comes last: where it is, everything is."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from app.publications.destinations import BucketDestination
from app.publications.model_files import ModelFiles, is_weights
from app.publications.outcomes import MAX_SAID, Place, Refused, Unreachable, outcome_of_status

_MARK: Final = ".publishing"
"""Holds the digest of the model of which some files may be there."""
_PART_BYTES: Final = 8 << 20
_MAX_CONCURRENT_PARTS: Final = 4
_RETRY_CONFIG: Final[dict[str, Any]] = {"max_retries": 3}
_ENCRYPTION: Final = (
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_SSE_BUCKET_KEY_ENABLED",
)
"""What the library takes out of the environment and cannot be told to leave there."""
_STATUS: Final = re.compile(r"status code: (\d{3})")
_SAID: Final = (re.compile(r"<Code>([^<]*)</Code>"), re.compile(r"<Message>([^<]*)</Message>"))


def send_to_bucket(
    destination: BucketDestination, files: ModelFiles, *, secret_access_key: str, digest: str
) -> Place:
    """Put every file. A folder that holds the model already is left alone.

    Args:
        digest: of the model's files.

    Raises:
        Refused: the folder holds something else, or the bucket does not let the secret in.
        Unreachable: the bucket cannot be reached, or somebody else writes to the folder.
    """
    place = Place(url=destination.url.rstrip("/"), revision=digest)
    with _told():
        store = _open(destination, secret_access_key=secret_access_key)
        manifest = files.content(files.manifest_file)
        if _content(store, files.manifest_file.path, at_most=len(manifest)) == manifest:
            _remove_mark(store, digest)
            return place
        _claim(store, files, digest=digest, may_replace=destination.overwrite)
        stale = _stale_weights(store, files)
        for file in files.all[:-1]:
            # It appears when the block ends, and not when it is left by an error.
            with obstore.open_writer(
                store, file.path, buffer_size=_PART_BYTES, max_concurrency=_MAX_CONCURRENT_PARTS
            ) as writer:
                for piece in files.pieces(file):
                    writer.write(piece)
        if stale:
            obstore.delete(store, stale)
        if not _is_claimed(store, digest):
            raise Unreachable("somebody else has begun to write to the folder")
        obstore.put(store, files.manifest_file.path, manifest)
        _remove_mark(store, digest)
    return place


def _claim(store: Any, files: ModelFiles, *, digest: str, may_replace: bool) -> None:
    """Mark the folder as one where this model is put. From here on it does not look whole.

    Raises:
        Refused: it is somebody else's.
    """
    if not may_replace and not _is_claimed(store, digest):
        other = next((name for page in _names(store, files) for name in page if name != _MARK), None)
        if other is not None:
            raise Refused(f"the folder holds other files, such as {other}", code="destination_taken")
    try:
        obstore.put(store, _MARK, digest.encode(), mode="create")
    except AlreadyExistsError:
        if not may_replace and not _is_claimed(store, digest):
            raise Refused(
                f"another model was or is being put into the folder ({_MARK})", code="destination_taken"
            ) from None
        obstore.put(store, _MARK, digest.encode())
    if may_replace:
        obstore.delete(store, files.manifest_file.path)


def _is_claimed(store: Any, digest: str) -> bool:
    return _content(store, _MARK, at_most=len(digest)) == digest.encode()


def _remove_mark(store: Any, digest: str) -> None:
    if _is_claimed(store, digest):
        obstore.delete(store, _MARK)


def _stale_weights(store: Any, files: ModelFiles) -> list[str]:
    """Weights of another model, which a loader would take for ours; everything else stays."""
    return [
        name for page in _names(store, files) for name in page if name not in files.names and is_weights(name)
    ]


def _names(store: Any, files: ModelFiles) -> Iterator[list[str]]:
    """What is in the folder, in pages. There may be millions."""
    for page in obstore.list(store):
        files.note()
        # Consoles make a folder by an object without a name in it.
        yield [meta["path"] for meta in page if meta["path"]]


def _content(store: Any, path: str, *, at_most: int) -> bytes | None:
    """What an object holds; None where there is none, or a larger one."""
    try:
        if obstore.head(store, path)["size"] > at_most:
            return None
        return bytes(obstore.get(store, path).bytes())
    except (NotFoundError, FileNotFoundError):
        return None


def _open(destination: BucketDestination, *, secret_access_key: str) -> Any:
    """The folder. What the environment says of the service's own store must not play a part.

    The library takes from there what it is not given, so everything is given.
    """
    if found := [name for name in _ENCRYPTION if name in os.environ]:
        raise Refused(
            f"the service runs with {', '.join(found)}, which would go to this bucket, too; an operator can "
            "run `fusion housekeeper` without it for publishing",
            code="destination_not_allowed",
        )
    parts = urlsplit(destination.url)
    bucket, endpoint = parts.netloc, destination.endpoint
    # The certificate of AWS covers one label.
    is_host = endpoint is None and "." not in bucket
    url = endpoint or _aws_url(bucket, destination.region, is_host=is_host)
    return S3Store(
        bucket,
        prefix=parts.path.strip("/") or None,
        region=destination.region,
        endpoint=url,
        aws_endpoint_url_s3=url,
        virtual_hosted_style_request=is_host,
        skip_signature=False,
        request_payer=False,
        s3_express=False,
        unsigned_payload=False,
        conditional_put="etag",
        credential_provider=lambda: {
            "access_key_id": destination.access_key_id,
            "secret_access_key": secret_access_key,
            "token": None,
            "expires_at": None,
        },
        client_options={
            "connect_timeout": "10s",
            "timeout": "120s",
            "allow_http": urlsplit(url).scheme == "http",
        },
        retry_config=_RETRY_CONFIG,
    )


def _aws_url(bucket: str, region: str, *, is_host: bool) -> str:
    domain = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    return f"https://{bucket}.{domain}" if is_host else f"https://{domain}"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise _outcome(error) from error


def _outcome(error: Exception) -> Exception:
    """The library tells statuses, and what the server says, only in its message."""
    text = str(error).partition("Debug source")[0].strip()
    status = _STATUS.search(text)
    said = [match[1] for pattern in _SAID if (match := pattern.search(text))]
    told = (": ".join(said) or text)[:MAX_SAID]
    if "redirect" in text and status is None:
        return Refused(f"the bucket is in another region: {told}", code="destination_refused")
    if status is not None:
        return outcome_of_status(int(status[1]), told)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return outcome_of_status(403, told)
    if isinstance(error, InvalidPathError | NotFoundError | FileNotFoundError):
        return Refused(f"the bucket: {told}", code="destination_refused")
    return Unreachable(f"the bucket cannot be reached: {told}")
