"""The files of a Hub dataset on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from fusion.corpus.dataset_layout import CARD_NAME, MAX_CARD_BYTES, LayoutUnusable, files_of_split, kind_of
from fusion.corpus.readers import Format
from fusion.errors import CorpusInvalid
from fusion.llms.hub import explained_refusals
from fusion.spec import HubDataset

POINTER: Final = "/corpus/dataset"
_TOKEN: Final = "a private dataset needs a token in the environment of the worker (HF_TOKEN)"


def dataset_files(source: HubDataset) -> Iterator[tuple[Path, Format]]:
    """The files of the split and what they hold, one after another, each downloaded once per machine.

    Raises:
        CorpusInvalid: the repository, the commit, the config or the split does not exist, or is not readable.
        InfrastructureError: the hub cannot be reached.
    """
    label = f"dataset {source.hub}@{source.revision[:12]}"
    gated = _unusable(f"access to {label} has not been granted", hint=f"accept its conditions; {_TOKEN}")
    absent = _unusable(f"the hub has no {label}", hint=f"check the name and the commit; {_TOKEN}")
    refusals = {"gated": gated, "absent": absent}
    with explained_refusals(label, **refusals, instead="give the text as corpus.files", pointer=POINTER):
        sizes = _sizes(source)
        has_card = sizes.get(CARD_NAME, MAX_CARD_BYTES + 1) <= MAX_CARD_BYTES
        card = _download(source, CARD_NAME).read_text(errors="replace") if has_card else None
    try:
        names = files_of_split(sizes, card=card, config=source.config, split=source.split)
    except LayoutUnusable as error:
        raise _unusable(
            f"{label} cannot be used: {error}",
            hint="check config and split; make JSONL or Parquet of other formats and give it as corpus.files",
        ) from error
    for name in names:
        with explained_refusals(label, **refusals, instead="give the text as corpus.files", pointer=POINTER):
            path = _download(source, name)
        kind = kind_of(name)
        assert kind is not None, "a layout holds nothing else"
        yield path, kind


def _sizes(source: HubDataset) -> dict[str, int]:
    """Every file of the repository with its size in bytes."""
    tree = HfApi().list_repo_tree(source.hub, recursive=True, revision=source.revision, repo_type="dataset")
    return {item.path: item.size for item in tree if isinstance(item, RepoFile)}


def _download(source: HubDataset, name: str) -> Path:
    return Path(HfApi().hf_hub_download(source.hub, name, revision=source.revision, repo_type="dataset"))


def _unusable(message: str, *, hint: str) -> CorpusInvalid:
    return CorpusInvalid(message, code="corpus_dataset_unusable", hint=hint, pointer=POINTER)
