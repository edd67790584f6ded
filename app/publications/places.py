"""Kinds of places outside of the service, and the servers they are on. Pure."""

from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Target(StrEnum):
    """Kinds of places to which a model is published."""

    HF = "hf"
    """A repository of a Hugging Face Hub."""
    S3 = "s3"
    """A folder of a bucket, at AWS or whatever else speaks S3."""
    MLFLOW = "mlflow"
    """A version of a registered model of an MLflow server."""


def origin_of(url: str) -> str:
    """Scheme, host and port of an URL, in one spelling: `https://mlflow.example.com:5000`.

    Raises:
        ValueError: it is no http(s) URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"expected https://host or https://host:port, got {url!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")
