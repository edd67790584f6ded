"""Sends a model to a repository of a Hugging Face Hub, in one commit.

The files go as they lie in the store, over the hub's LFS protocol: its other one wants them on a disk.
"""

import functools
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha1
from importlib.metadata import version
from typing import Any, Final

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.lfs import UploadInfo
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.logging import set_verbosity
from huggingface_hub.utils.tqdm import disable_progress_bars

from app.db.models import ArtifactFile
from app.publications.destinations import HubDestination
from app.publications.model_files import ModelFiles, is_weights
from app.publications.outcomes import (
    MAX_SAID,
    Place,
    Refused,
    Unreachable,
    causes_of,
    outcome_of_status,
)
from app.retries import asked_seconds
from fusion.errors import FusionError

_DEFAULT_BRANCH: Final = "main"
_NUM_FILES_AT_ONCE: Final = 2
_SAMPLE_BYTES: Final = 512
"""Of the beginning of a file, by which a hub tells text from other bytes."""
_MAX_WHOLE_BYTES: Final = 10_000_000
"""A hub may want files up to this size in the commit itself, where it does not compare their digests."""
_TIMEOUT: Final = httpx2.Timeout(30, read=300, write=120)
"""The library itself waits for ever. A hub may think for minutes about a large commit."""


def send_to_hub(destination: HubDestination, files: ModelFiles, *, endpoint: str, token: str) -> Place:
    """Commit the files. A branch whose manifest is theirs already gets no commit.

    Raises:
        Refused: the hub does not let the token write there, or takes something amiss.
        Unreachable: it cannot be reached, or somebody else committed meanwhile.
    """
    _prepare_library()
    api = HfApi(endpoint=endpoint, token=token, library_name="fusion", library_version=_version())
    repo, branch = destination.repo, destination.branch
    with _told():
        api.create_repo(repo, private=destination.private, exist_ok=True)
        if branch != _DEFAULT_BRANCH:
            api.create_branch(repo, branch=branch, exist_ok=True)
        head = api.model_info(repo, revision=branch, files_metadata=True)
        there = {sibling.rfilename: sibling.blob_id for sibling in head.siblings or []}
        manifest = files.content(files.manifest_file)
        is_there = there.get(files.manifest_file.path) == _git_id(manifest)
        if head.sha is not None and is_there and files.names <= there.keys():
            return _place(endpoint, repo, head.sha)
        if ".gitignore" in there:
            raise Refused(
                "the repository has a .gitignore, by which a hub leaves files out of commits: remove it",
                code="destination_refused",
            )
        commit = api.create_commit(
            repo,
            [*(_addition(files, file) for file in files.all), *_deletions(there, files)],
            commit_message=destination.message or "Publish a fused model",
            revision=branch,
            # Whoever committed since then has not seen what this commit removes.
            parent_commit=head.sha,
            num_threads=_NUM_FILES_AT_ONCE,
        )
    return _place(endpoint, repo, commit.oid)


def _addition(files: ModelFiles, file: ArtifactFile) -> CommitOperationAdd:
    if file.num_bytes <= _MAX_WHOLE_BYTES:
        # As a file: bytes would go by the other protocol.
        return CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=io.BytesIO(files.content(file)))
    # Made of nothing, so that the library does not read the file for what is known of it.
    addition = CommitOperationAdd(path_in_repo=file.path, path_or_fileobj=b"")
    addition.path_or_fileobj = files.open(file)
    addition.upload_info = UploadInfo(
        size=file.num_bytes,
        sample=files.head(file, _SAMPLE_BYTES),
        sha256=bytes.fromhex(file.sha256),
    )
    return addition


def _deletions(there: dict[str, Any], files: ModelFiles) -> Iterator[CommitOperationDelete]:
    """Weights of another model, which a loader would take for ours; everything else stays."""
    for name in sorted(there.keys() - files.names):
        if is_weights(name):
            yield CommitOperationDelete(path_in_repo=name)


def _git_id(data: bytes) -> str:
    """What git calls a file with these bytes."""
    return sha1(b"blob %d\x00" % len(data) + data, usedforsecurity=False).hexdigest()


def _place(endpoint: str, repo: str, revision: str) -> Place:
    return Place(url=f"{endpoint}/{repo}/tree/{revision}", revision=revision)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the library raises, and what it wraps, into an outcome."""
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _outcome(error) from error


def _outcome(error: Exception) -> Exception:
    for cause in causes_of(error):
        if isinstance(cause, HfHubHTTPError):
            return _outcome_of_answer(cause)
        if isinstance(cause, httpx2.TransportError):
            return Unreachable(f"the hub cannot be reached: {cause}")
        # The reasons of this side, which come up through the library: a cancel, or a damaged file.
        if isinstance(cause, FusionError) or not isinstance(cause, OSError | ValueError | RuntimeError):
            return cause if isinstance(cause, Exception) else error
    return Refused(f"the hub: {str(error)[:MAX_SAID]}", code="destination_refused")


def _outcome_of_answer(error: HfHubHTTPError) -> Exception:
    status = error.response.status_code
    message = (error.server_message or error.response.reason_phrase)[:MAX_SAID]
    if status in (409, 412):
        return Unreachable(f"somebody else committed meanwhile: {message}")
    if status == 404:
        return Refused(
            f"the hub knows no such repository, or not for this token: {message}", code="destination_denied"
        )
    asked = asked_seconds(error.response.headers.get("Retry-After"), now=datetime.now(UTC))
    return outcome_of_status(status, message, asked_seconds=asked)


def _version() -> str:
    return version("fusion-service")


def _new_client() -> httpx2.Client:
    client = default_client_factory()
    client.timeout = _TIMEOUT
    return client


@functools.cache
def _prepare_library() -> None:
    """Its settings are those of a process: only one that publishes has them."""
    set_client_factory(_new_client)
    disable_progress_bars()
    # It warns of what the beginning of this module is about.
    set_verbosity(logging.ERROR)
