"""Where a model is to be published, as requests say it, and which of these places an operator allows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from app.errors import FieldProblem
from app.publications.forms import Form
from app.publications.places import Target, origin_of
from app.settings import Settings
from fusion.spec import SECRET_NAME

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_FOLDER: Final = r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]*"

SecretName = Annotated[str, Form(SECRET_NAME, "the name of a secret, such as hub-token")]
Url = Annotated[str, Field(max_length=300), Form(r"^https?://[!-~]+$", "an https URL")]
Line = Annotated[str, Field(min_length=1, max_length=200), Form(r"^[^\x00-\x1f\x7f]+$", "one line of text")]


class HubDestination(BaseModel):
    """A repository of the hub that the service is set up with; it is made if it is not there."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: Literal["hf"]
    repo: Annotated[
        str,
        Field(max_length=193, examples=["org/wise-7b"]),
        Form(rf"^{_NAME}/{_NAME}$", "namespace/name, such as org/wise-7b"),
    ]
    """`namespace/name`."""
    branch: Annotated[
        str,
        Field(max_length=100),
        Form(r"^[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?$", "the name of a branch, such as main"),
    ] = "main"
    """It is made, from the repository's default one, if it is not there."""
    private: bool = True
    """Of a repository that is made; one that is there stays as it is."""
    message: Line | None = None
    """Of the commit."""
    secret: SecretName
    """Name or id of the secret that holds a token with the right to write there."""

    @field_validator("repo")
    @classmethod
    def _is_one_that_hubs_take(cls, repo: str) -> str:
        try:
            validate_repo_id(repo)
        except HFValidationError as error:
            raise ValueError(str(error)) from error
        return repo


class BucketDestination(BaseModel):
    """A folder of a bucket."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: Literal["s3"]
    url: Annotated[
        str,
        Field(max_length=600, examples=["s3://models/wise-7b"]),
        Form(
            rf"^s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](?:/{_FOLDER})*/?$",
            "s3://bucket/folder, such as s3://models/wise-7b",
        ),
    ]
    """`s3://bucket/folder`."""
    region: Annotated[str, Form(r"^[a-z0-9-]{1,40}$", "a region, such as eu-central-1")] = "us-east-1"
    endpoint: Url | None = None
    """Of a server other than AWS; one that the operator allows."""
    access_key_id: Annotated[
        str, Field(max_length=128), Form(r"^[!-~]+$", "the id of an access key, such as AKIA...")
    ]
    secret: SecretName
    """Name or id of the secret that holds the secret access key. Nothing else is ever used to log in."""
    overwrite: bool = False
    """Whether another model may be replaced that is there."""


class MlflowDestination(BaseModel):
    """A new version of a registered model of an MLflow server, which takes artifacts itself."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    target: Literal["mlflow"]
    tracking_uri: Url
    """One that the operator allows, such as https://mlflow.example.com."""
    name: Annotated[
        str,
        Field(min_length=1, max_length=200),
        Form(r"^[^\x00-\x1f\x7f/:]+$", "a name without slashes and colons"),
    ]
    """Of the registered model; it is made if it is not there."""
    experiment: Line = "fusion"
    """Of the run that holds the files; it is made if it is not there."""
    username: (
        Annotated[str, Field(max_length=128), Form(r"^[!-9;-~]+$", "visible characters without colons")]
        | None
    ) = None
    """With it the secret is a password, without it a token."""
    secret: SecretName | None = None
    """Name or id of the secret to log in with."""


Destination = HubDestination | BucketDestination | MlflowDestination
AskedDestination = Annotated[Destination, Field(discriminator="target")]
_ADAPTER: Final[TypeAdapter[Destination]] = TypeAdapter(AskedDestination)


def read_destination(stored: object) -> Destination:
    """A destination as it was asked for."""
    return _ADAPTER.validate_python(stored)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlets:
    """Which places an operator allows."""

    targets: tuple[Target, ...]
    hub: str
    origins: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Outlets":
        return cls(
            targets=settings.publish_targets, hub=settings.publish_hub, origins=settings.publish_origins
        )

    def problem(self, destination: Destination) -> FieldProblem | None:
        """Why nothing may be published there; None where it may."""
        return next(self._problems(destination), None)

    def _problems(self, destination: Destination) -> Iterator[FieldProblem]:
        if destination.target not in self.targets:
            allowed = f"to {_listed(self.targets)}" if self.targets else "nowhere"
            detail = f"this service publishes {allowed}, got {destination.target}"
            yield FieldProblem(pointer="/target", code="destination_not_allowed", detail=detail)
        if isinstance(destination, BucketDestination) and destination.endpoint is not None:
            yield from self._problems_of_url(destination.endpoint, pointer="/endpoint")
        if isinstance(destination, MlflowDestination):
            yield from self._problems_of_url(destination.tracking_uri, pointer="/tracking_uri")
            if destination.username is not None and destination.secret is None:
                detail = "the secret with the password of this user is missing"
                yield FieldProblem(pointer="/secret", code="missing", detail=detail)

    def _problems_of_url(self, url: str, *, pointer: str) -> Iterator[FieldProblem]:
        try:
            origin = origin_of(url)
        except ValueError as error:
            yield FieldProblem(pointer=pointer, code="url_invalid", detail=str(error))
            return
        if "?" in url or "#" in url:
            yield FieldProblem(pointer=pointer, code="url_invalid", detail="no ? and no # is expected")
        if origin not in self.origins:
            allowed = _listed(self.origins) if self.origins else "none"
            detail = f"{origin} is not among the servers that the operator allows: {allowed}"
            yield FieldProblem(pointer=pointer, code="destination_not_allowed", detail=detail)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
