"""What is fused, and over which text: models and corpus."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from fusion.spec_fields import Dtype, FieldName, LocalPath, Slug, SpecModel, exactly_one_of

SECRET_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class ModelRef(SpecModel):
    """A checkpoint: give exactly one of `hub` (with `revision`), `path` or `model_id`."""

    model_config = ConfigDict(json_schema_extra=exactly_one_of(("hub", "revision"), ("path",), ("model_id",)))

    hub: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")] | None = (
        None
    )
    """Hugging Face Hub repository, `org/name`."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit of the hub repository: 40 hexadecimal digits. Branches move, so they are not accepted."""
    # Left out where it is not given: workers of releases that know no secrets refuse a spec with the word.
    secret: Annotated[str | None, Field(pattern=SECRET_NAME, exclude_if=lambda name: name is None)] = None
    """Name or id of a secret of the project (`POST /v1/secrets`): the token that opens a private or gated
    repository. Its value stands in no spec."""
    path: LocalPath | None = None
    """Local folder with config, tokenizer and safetensors; in the service, under an allowed root."""
    model_id: Annotated[str, Field(max_length=40, pattern=r"^model-[0-9a-z]+$")] | None = None
    """A model registered with the service."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("hub", "path", "model_id") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of hub, path or model_id (got {', '.join(given) or 'none'})")
        if self.hub is not None and self.revision is None:
            raise ValueError("a hub model needs revision: the full commit hash (40 hexadecimal digits)")
        if self.hub is None and self.revision is not None:
            raise ValueError("revision belongs to hub; remove it or give hub")
        if self.hub is None and self.secret is not None:
            raise ValueError("secret belongs to hub; remove it or give hub")
        return self

    @property
    def label(self) -> str:
        """Short text for logs and cards."""
        return (
            f"{self.hub}@{self.revision[:12]}"
            if self.hub and self.revision
            else self.path or self.model_id or ""
        )


class SourceSpec(SpecModel):
    """A model whose knowledge is fused."""

    name: Slug
    """Unique within the job; appears in step names, reports and the model card."""
    model: ModelRef
    dtype: Dtype = "auto"
    """Precision of the forward pass; `auto` is bfloat16 on a GPU and float32 on a CPU."""


class TargetSpec(SpecModel):
    """The model that is trained."""

    model: ModelRef


class CorpusFile(SpecModel):
    """One file of the corpus: JSONL, plain text or Parquet, by its extension; the first two also compressed
    (`.jsonl.gz`, `.txt.zst`, `.xz`)."""

    model_config = ConfigDict(json_schema_extra=exactly_one_of(("file_id",), ("path",)))

    file_id: Annotated[str, Field(max_length=40, pattern=r"^file-[0-9a-z]+$")] | None = None
    """A file uploaded to the service."""
    path: LocalPath | None = None
    """A local file; in the service, under an allowed root."""
    format: Literal["jsonl", "text", "parquet"] | None = None
    """Only needed where the file name does not tell."""
    domain: Slug | None = None
    """Label of every document of this file; `domain_field` of a record wins over it."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.file_id is None) == (self.path is None):
            raise ValueError("give exactly one of file_id or path")
        return self


class HubDataset(SpecModel):
    """A dataset of the Hugging Face Hub at a pinned commit: its Parquet, JSONL or text files. Which of them
    make up a split its card says, or else their names; nothing outside of the repository is read."""

    hub: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]
    """Repository, `org/name`."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """Commit: 40 hexadecimal digits."""
    config: FieldName | None = None
    """Needed where the card lists several and none of them is the default one."""
    split: FieldName = "train"
    """The name of a split, whole."""
    domain: Slug | None = None
    """Label of every document; `domain_field` of a record wins over it."""


class CorpusSpec(SpecModel):
    """The text that all models read: `files`, or one `dataset`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["files"],
                    "properties": {"files": {"minItems": 1}, "dataset": {"type": "null"}},
                },
                {
                    "required": ["dataset"],
                    "properties": {"dataset": {"not": {"type": "null"}}, "files": {"maxItems": 0}},
                },
            ]
        }
    )

    files: list[CorpusFile] = Field(default=[], max_length=1000)
    dataset: HubDataset | None = None
    text_field: FieldName = "text"
    """Field of a JSONL or Parquet record that holds the document."""
    messages_field: FieldName | None = None
    """Field with chat messages (`role`, `content`); takes the place of `text_field`."""
    domain_field: FieldName | None = None
    """Field whose value labels the document, so that results are reported per domain."""
    max_tokens_per_window: Annotated[int, Field(ge=8)] = 2048
    """Documents are cut into windows of at most this many tokens of **every** tokenizer in the job. The
    text and this number decide where; a tokenizer has a say only where a window is too long for it."""
    windows_per_shard: Annotated[int, Field(ge=1)] = 1024
    """Unit of resumable work in extract and align."""
    held_out_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Share of documents kept for evaluation, chosen by a hash of the document before anything sees it."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.files) == (self.dataset is not None):
            raise ValueError("give either files or dataset")
        return self
