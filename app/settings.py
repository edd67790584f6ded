"""Settings of the service: environment variables with the prefix FUSION_, or arguments."""

import logging
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app.publications.places import Target, origin_of
from app.quotas.limits import UNLIMITED, Quotas
from app.rate_limits.limits import RateLimits
from fusion.errors import UserError
from fusion.plan import Stage

DATABASES = ("sqlite", "postgresql")
STALL_SECONDS: dict[Stage, float] = {
    # Downloads, copies and whole evaluations of a split say nothing in between.
    "prepare": 3600,
    "extract": 1800,
    "align": 1800,
    "train": 1800,
    "evaluate": 3600,
    "publish": 3600,
}


class Settings(BaseSettings):
    """Everything an operator can choose. The defaults are the embedded profile: one machine, one folder."""

    model_config = SettingsConfigDict(env_prefix="FUSION_", frozen=True, use_attribute_docstrings=True)

    data_dir: Path = Path("data")
    """Folder of the database, the stored files and the secrets of an embedded service."""
    database_url: str = ""
    """`postgresql+psycopg://...`, or `sqlite:///...`; a SQLite file in `data_dir` when not given."""
    worker_role: str | None = None
    """Role of PostgreSQL as which workers connect: it gets what a step needs and nothing else, whenever the
    tables are brought up to date. Set where that is done."""
    broker_url: str | None = None
    """Redis that rings the workers' doorbell. Without it the workers poll, and nothing else changes."""
    storage_url: str = ""
    """Object store: `file:///...`, `s3://bucket/prefix` and others; a folder in `data_dir` when not given."""
    allowed_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders from which a spec may read models and corpora; separated like PATH."""
    capture_cache_dir: Path = Path()
    """Where a worker keeps captures for later jobs of a project; a folder in `data_dir` when not given.
    One on a shared file system serves several machines."""
    max_capture_cache_bytes: Annotated[int, Field(ge=0)] = 50_000_000_000
    """Beyond it, or beyond half of the free disk, the captures unused for longest go; 0 keeps none."""
    max_hub_cache_bytes: Annotated[int, Field(ge=0)] = 100_000_000_000
    """Of models that a worker downloaded with a secret. Beyond it, or beyond half of the free disk, those
    unused for longest go."""
    hub_cache_kept_seconds: Annotated[float, Field(ge=0)] = 30 * 86_400
    """Those that were unused for so long go in any case; `inf`: none does."""
    key_pepper_file: Path = Path()
    """Secret that API keys are hashed with; made in `data_dir` when not given."""
    key_pepper: SecretStr | None = None
    """The same secret by value, for API processes on several machines; wins over the file."""
    sealing_key_file: Path = Path()
    """Key of the secrets that the service must read again, such as those of webhooks; made in `data_dir` when
    not given. To replace it, put the new one on a line before the old one."""
    sealing_key: SecretStr | None = None
    """The same by value, for processes on several machines; wins over the file."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_request_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    """Largest body of a request that is not an upload."""
    max_upload_bytes: Annotated[int, Field(ge=1)] = 5_000_000_000
    """Largest file."""
    max_checked_at_upload_bytes: Annotated[int, Field(ge=0)] = 4_000_000
    """Files with up to so much text are checked before their upload is answered, others soon afterwards."""

    max_part_bytes: Annotated[int, Field(ge=1)] = 64 << 20
    """Largest part of an upload in parts."""
    upload_kept_seconds: Annotated[float, Field(gt=0)] = 86_400
    """How long an unfinished upload in parts waits for its next part."""

    statement_seconds: Annotated[float, Field(gt=0)] = 30
    """The database ends a statement of a request that takes longer, on PostgreSQL waiting for a lock included
    (503)."""
    idle_transaction_seconds: Annotated[float, Field(gt=0)] = 300
    """PostgreSQL ends a transaction of a request in which nothing was asked for so long."""

    rate_limits: RateLimits = RateLimits()
    """Requests per minute of a key, of a project, and from an address without a key that works, as JSON:
    `{"key": 600, "project": null}`; null is without limit."""
    rate_limit_url: str | None = None
    """Redis that counts requests for all API processes; that of `broker_url` when not given. Without one each
    process counts for itself."""

    default_quotas: Quotas = UNLIMITED
    """Limits of projects that are made from now on, as JSON: `{"running_jobs": 2}`; none when not given. The
    project that exists by itself has none."""

    download_mode: Literal["auto", "proxy"] = "auto"
    """`auto`: clients fetch from the object store where it signs URLs; `proxy`: always through the API."""
    public_url: str | None = None
    """Address under which clients reach the API, for the links it gives; that of the request if not given."""

    webhook_allow_http: bool = False
    """Whether webhooks may go over plain http."""
    webhook_ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], NoDecode] = (443,)
    """Ports to which webhooks may go, separated by commas; empty for any."""
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks that are not public and to which webhooks may go all the same, such as `10.1.0.0/16`;
    separated by commas."""

    publish_targets: Annotated[tuple[Target, ...], NoDecode] = tuple(Target)
    """Kinds of places to which models may be published, separated by commas; empty for none."""
    publish_hub: str = "https://huggingface.co"
    """The hub of `hf`."""
    publish_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Servers to which models may be published besides that hub and AWS: MLflow servers and endpoints of S3,
    as `https://mlflow.example.com:5000`, separated by commas. They may be private, and http."""

    request_threads: Annotated[int, Field(ge=2, le=40)] = 12
    """How many requests a process of the API works on at a time. They take turns on one core, so more of them
    end later and no faster. Start more processes instead."""
    max_wait_seconds: Annotated[float, Field(gt=0)] = 10
    """While requests wait longer than this for one of those threads, new ones are refused (503)."""

    follow_poll_seconds: Annotated[float, Field(gt=0)] = 0.5
    """How often a process of the API looks for news of the jobs that are followed there."""
    stream_heartbeat_seconds: Annotated[float, Field(gt=0)] = 15
    """A stream says at least so often that it is alive; less than any proxy's patience."""
    max_followers: Annotated[int, Field(ge=1)] = 5000
    """How many clients may follow jobs through one process of the API at a time."""

    lease_seconds: Annotated[int, Field(ge=1)] = 60
    """A worker that is silent for longer has lost its step."""
    heartbeat_seconds: Annotated[float, Field(gt=0)] = 15
    max_offline_seconds: Annotated[float, Field(gt=0)] = 1800
    """How long a running step works on without the database; nothing is committed meanwhile."""
    stall_seconds: dict[Stage, Annotated[float, Field(gt=0)]] = Field(
        default=STALL_SECONDS, validate_default=True
    )
    """After so long without a word from a stage it is killed. JSON by stage; those not named keep theirs."""
    checkpoint_grace_seconds: Annotated[float, Field(ge=0)] = 120
    """How long a stage may take to store what it has when it is paused or its worker ends."""
    reconcile_seconds: Annotated[float, Field(gt=0)] = 15
    poll_seconds: Annotated[float, Field(gt=0)] = 2
    """How often an idle worker without a broker asks for work."""
    stuck_seconds: Annotated[int, Field(ge=1)] = 300
    """A step that waits longer than this for a worker makes `/readyz` red."""
    housekeeping: bool = True
    """Whether API and workers keep house in threads of their own; off where `fusion housekeeper` runs."""
    gc_seconds: Annotated[float, Field(gt=0)] = 3600
    """How often garbage is collected."""
    gc_grace_seconds: Annotated[float, Field(ge=0)] = 86_400
    """Stored bytes without a row are kept for so long; longer than the longest upload."""
    failed_parts_kept_seconds: Annotated[float, Field(ge=0)] = 7 * 86_400
    """How long after its end a failed job keeps the parts that a retry would continue from."""
    logs_kept_seconds: Annotated[float, Field(ge=0)] = 90 * 86_400
    """How long after its end a job keeps its logs; `inf`: as long as the job."""
    metrics_kept_seconds: Annotated[float, Field(ge=0)] = 365 * 86_400
    """How long after its end a job keeps its training curves; `inf`: as long as the job."""
    log_level: str = "INFO"

    @property
    def counting_redis(self) -> str | None:
        """Redis that counts requests."""
        url = self.rate_limit_url or self.broker_url or ""
        return url if url.startswith("redis") else None

    @property
    def uploads_dir(self) -> Path:
        """Where uploads arrive; on the disk of a local store, so that they are linked into it."""
        return self.data_dir / "uploads"

    @property
    def workspaces_dir(self) -> Path:
        """Where attempts of this machine work; on the disk of a local store for the same reason."""
        return self.data_dir / "workspaces"

    @property
    def hub_cache_dir(self) -> Path:
        """Where a worker keeps what it downloaded with a secret, by project."""
        return self.data_dir / "hub_cache"

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split_like_path(cls, value: Any) -> Any:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("webhook_ports", "webhook_networks", "publish_targets", "publish_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @field_validator("allowed_roots")
    @classmethod
    def _resolve(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(root.expanduser().resolve() for root in roots)

    @field_validator("publish_hub")
    @classmethod
    def _is_an_url(cls, url: str) -> str:
        origin_of(url)
        return url.rstrip("/")

    @field_validator("publish_origins")
    @classmethod
    def _are_origins(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if urlsplit(url).path.strip("/") or "?" in url or "#" in url:
                raise ValueError(
                    f"expected a whole server such as https://host:port, without a path: {url!r}"
                )
        return tuple(map(origin_of, urls))

    @field_validator("stall_seconds", mode="before")
    @classmethod
    def _keep_the_others(cls, value: Any) -> Any:
        return {**STALL_SECONDS, **value} if isinstance(value, dict) else value

    @field_validator("log_level")
    @classmethod
    def _is_a_level(cls, level: str) -> str:
        if level.upper() not in logging.getLevelNamesMapping():
            raise ValueError("expected DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return level

    @field_validator("database_url")
    @classmethod
    def _names_a_known_database(cls, url: str) -> str:
        try:
            backend = make_url(url).get_backend_name()
        except ArgumentError:
            backend = None
        if backend not in DATABASES:
            raise ValueError("expected sqlite:///... or postgresql+psycopg://...")
        return url

    @model_validator(mode="before")
    @classmethod
    def _below_data_dir(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data_dir = Path(data.get("data_dir") or "data").expanduser().resolve()
        return {
            **data,
            "data_dir": data_dir,
            "database_url": data.get("database_url") or f"sqlite:///{data_dir / 'fusion.db'}",
            "storage_url": data.get("storage_url") or (data_dir / "storage").as_uri(),
            "capture_cache_dir": data.get("capture_cache_dir") or data_dir / "capture_cache",
            "key_pepper_file": data.get("key_pepper_file") or data_dir / "secrets" / "key_pepper",
            "sealing_key_file": data.get("sealing_key_file") or data_dir / "secrets" / "sealing_key",
        }

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError(
                f"lease_seconds ({self.lease_seconds}) must be at least twice heartbeat_seconds "
                f"({self.heartbeat_seconds}): one lost heartbeat must not lose the step"
            )
        return self


def load_settings(**given: Any) -> Settings:
    """The settings from the environment, where `given` does not say otherwise.

    Raises:
        UserError: names every variable whose value cannot be used; values are not shown, for some are secret.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            ": ".join([*_variables(item["loc"]), item["msg"].removeprefix("Value error, ")])
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise UserError(
            "; ".join(problems),
            code="settings_invalid",
            hint="mend the variable in the environment, or the option of the command that sets it",
        ) from error


def _variables(location: tuple[int | str, ...]) -> list[str]:
    """The variable at fault; none where several contradict each other, which the message names."""
    return [f"FUSION_{str(location[0]).upper()}"] if location else []
