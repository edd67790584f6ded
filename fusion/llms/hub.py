"""Downloading from the Hugging Face Hub at a commit: safetensors and JSON, never pickles or code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fusion.errors import InfrastructureError, ModelUnusable, UserError
from fusion.io.hub_cache import hold, note_use

_ALLOWED = [
    "*.safetensors",
    "*.json",
    "tokenizer.model",
    "merges.txt",
    "chat_template.jinja",
    "README.md",
]


def download_checkpoint(
    repository: str, *, revision: str, token: str | None = None, cache: Path | None = None
) -> Path:
    """The local snapshot of a repository at a commit; downloaded once per machine.

    Args:
        token: opens a private repository; without it the machine's own login does (HF_TOKEN), if it has one.
        cache: where the download is kept. The cache of the machine gives whoever names a commit what lies
            there, also without a token, so what a token opened is kept in another one. There the repository
            is held until this process ends: others remove what nobody uses.

    Raises:
        ModelUnusable: the repository or commit does not exist, or access is not granted.
        InfrastructureError: the hub cannot be reached.
    """
    label = f"{repository}@{revision[:12]}"
    if cache is not None:
        hold(cache, repository)
    gated = ModelUnusable(
        f"access to {label} has not been granted",
        code="model_gated",
        hint="accept the model's conditions on its hub page, and name a secret with a token in the "
        "model's `secret` (POST /v1/secrets; without a service: HF_TOKEN)",
    )
    absent = ModelUnusable(
        f"the hub has no {label}",
        code="model_not_found",
        hint="check the name and the commit; a private repository needs a token: name a secret in the "
        "model's `secret` (POST /v1/secrets; without a service: HF_TOKEN)",
    )
    with explained_refusals(label, gated=gated, absent=absent, instead="give the model as a path"):
        folder = Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=_ALLOWED, token=token, cache_dir=cache
            )
        )
    if cache is not None:
        note_use(folder)
    return folder


@contextmanager
def explained_refusals(
    label: str, *, gated: UserError, absent: UserError, instead: str, pointer: str | None = None
) -> Iterator[None]:
    """Turn what the hub answers into an error with a way out.

    Args:
        gated, absent: raised when access is not granted, and when there is no such thing.
        instead: what to do without a network.

    Raises:
        InfrastructureError: the hub cannot be reached.
    """
    try:
        yield
    except GatedRepoError as error:
        raise gated from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(label, error, instead=instead, pointer=pointer) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise absent from error
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(label, error, instead=instead, pointer=pointer) from error


def _unreachable(label: str, error: Exception, *, instead: str, pointer: str | None) -> InfrastructureError:
    return InfrastructureError(
        f"{label} could not be downloaded: {error}",
        code="hub_unreachable",
        hint="check the worker's network, its proxy and HF_ENDPOINT, then retry; without a network, "
        f"{instead}",
        pointer=pointer,
        retry_after_seconds=_retry_after_seconds(error),
    )


def _retry_after_seconds(error: BaseException | None) -> float | None:
    """What the hub said with a 429 or 503, in seconds; a date is left to our own back-off."""
    while error is not None:
        response = getattr(error, "response", None)
        text = "" if response is None else response.headers.get("Retry-After", "")
        if text.strip().isdecimal():
            return float(text)
        # What the hub answered is behind "not in the cache either".
        error = error.__cause__
    return None
