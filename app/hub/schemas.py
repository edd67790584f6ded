"""Answers in the hub's words, as `huggingface_hub` reads them."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.db.models import ArtifactFile
from app.hub.repos import MAIN, Repo
from app.hub.tree import Folder, LfsPointer, pointer_to


class _HubObject(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, validate_by_name=True)


class SiblingLfs(_HubObject):
    """A file as git's large file storage knows it."""

    sha256: str
    size: int
    pointer_size: Annotated[int, Field(alias="pointerSize")]


class Sibling(_HubObject):
    """A file of a repository."""

    rfilename: str
    """Its path."""
    size: int | None = None
    """This and the rest with `?blobs=true` only."""
    blob_id: Annotated[str | None, Field(alias="blobId")] = None
    lfs: SiblingLfs | None = None

    @classmethod
    def of(cls, file: ArtifactFile, *, with_blobs: bool) -> Self:
        if not with_blobs:
            return cls(rfilename=file.path)
        pointer = pointer_to(file)
        lfs = SiblingLfs(sha256=file.sha256, size=file.num_bytes, pointer_size=len(pointer.text))
        return cls(rfilename=file.path, size=file.num_bytes, blob_id=pointer.blob_id, lfs=lfs)


class RepoInfo(_HubObject):
    """A model repository at a revision."""

    hub_id: Annotated[str, Field(alias="_id")]
    id: str
    model_id: Annotated[str, Field(alias="modelId")]
    author: str
    sha: str
    """The commit that the revision is."""
    created_at: Annotated[datetime, Field(alias="createdAt")]
    last_modified: Annotated[datetime, Field(alias="lastModified")]
    private: Literal[True] = True
    gated: Literal[False] = False
    disabled: Literal[False] = False
    downloads: Literal[0] = 0
    likes: Literal[0] = 0
    library_name: Literal["transformers"] = "transformers"
    pipeline_tag: Literal["text-generation"] = "text-generation"
    tags: list[str]
    siblings: list[Sibling]
    used_storage: Annotated[int, Field(alias="usedStorage")]

    @classmethod
    def of(cls, repo: Repo, files: list[ArtifactFile], *, with_blobs: bool) -> Self:
        return cls(
            hub_id=repo.model.id,
            id=repo.id,
            model_id=repo.id,
            author=repo.id.partition("/")[0],
            sha=repo.commit,
            created_at=repo.model.created_at,
            last_modified=repo.model.created_at,
            tags=["transformers", "safetensors", "text-generation", "fusion"],
            siblings=[Sibling.of(file, with_blobs=with_blobs) for file in files],
            used_storage=repo.artifact.num_bytes,
        )


class EntryLfs(_HubObject):
    """A file as git's large file storage knows it."""

    oid: str
    """Its sha256."""
    size: int
    pointer_size: Annotated[int, Field(alias="pointerSize")]


class TreeEntry(_HubObject):
    """A file or a folder of a repository."""

    type: Literal["file", "directory"]
    path: str
    size: int
    oid: str
    lfs: EntryLfs | None = None
    """Null for a folder."""

    @classmethod
    def of(cls, entry: Folder | ArtifactFile) -> Self:
        if isinstance(entry, Folder):
            return cls(type="directory", path=entry.path, size=0, oid=entry.id)
        pointer: LfsPointer = pointer_to(entry)
        lfs = EntryLfs(oid=entry.sha256, size=entry.num_bytes, pointer_size=len(pointer.text))
        return cls(type="file", path=entry.path, size=entry.num_bytes, oid=pointer.blob_id, lfs=lfs)


class Branch(_HubObject):
    """A revision that has a name."""

    name: str
    ref: str
    target_commit: Annotated[str, Field(alias="targetCommit")]


class Refs(_HubObject):
    """The named revisions of a repository."""

    branches: list[Branch]
    converts: list[Branch] = []
    tags: list[Branch] = []
    pull_requests: Annotated[list[Branch], Field(alias="pullRequests")] = []

    @classmethod
    def of(cls, repo: Repo) -> Self:
        return cls(branches=[Branch(name=MAIN, ref=f"refs/heads/{MAIN}", target_commit=repo.commit)])


class AccessToken(_HubObject):
    """The key that asks."""

    display_name: Annotated[str, Field(alias="displayName")]
    role: Literal["read", "write"]


class TokenAuth(_HubObject):
    """How the caller proved who it is."""

    type: Literal["access_token"] = "access_token"
    access_token: Annotated[AccessToken, Field(alias="accessToken")]


class WhoAmI(_HubObject):
    """Who asks: the project, which is the namespace of its repositories."""

    type: Literal["user"] = "user"
    id: str
    name: str
    """The namespace."""
    fullname: str
    """The name of the project."""
    email: None = None
    can_pay: Annotated[Literal[False], Field(alias="canPay")] = False
    is_pro: Annotated[Literal[False], Field(alias="isPro")] = False
    orgs: list[str] = []
    auth: TokenAuth
