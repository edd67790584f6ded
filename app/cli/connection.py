"""Which service a command talks to: options, environment, or the service that `fusion serve` started here."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli.output import ExitCode, print_error

if TYPE_CHECKING:
    from app.client import FusionClient

SERVER_FILE = "server.json"
ADMIN_KEY_FILE = "admin.key"
DEFAULT_DATA_DIR = Path("data")

UrlOption = Annotated[
    str | None, typer.Option("--url", envvar="FUSION_URL", help="Address of the service.", show_default=False)
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="FUSION_API_KEY", help="API key.", show_default=False, show_envvar=True),
]
DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="FUSION_DATA_DIR", help="Folder of a service started here by `fusion serve`."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def connect(url: str | None, api_key: str | None, data_dir: Path) -> "FusionClient":
    """A client for the service that is meant. `FUSION_PROJECT` names a project for an operator to act for."""
    from app.client import FusionClient

    project_id = os.environ.get("FUSION_PROJECT") or None
    return FusionClient(url or _url_of(data_dir), api_key or _key_of(data_dir), project_id=project_id)


def read_server_file(data_dir: Path) -> dict[str, object] | None:
    """What `fusion serve` noted about itself."""
    try:
        found = json.loads((data_dir / SERVER_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _url_of(data_dir: Path) -> str:
    server = read_server_file(data_dir)
    if server is None:
        _stop(
            f"no service is known: no --url, no FUSION_URL, and no {SERVER_FILE} in {data_dir}",
            hint="start one here with `fusion serve`, or give --url",
            code=ExitCode.USAGE,
        )
    return str(server["url"])


def _key_of(data_dir: Path) -> str:
    path = data_dir / ADMIN_KEY_FILE
    if not os.access(path, os.R_OK):
        whose = f"{path} belongs to another user" if path.exists() else f"there is no {path}"
        _stop(
            f"no API key is known: no --api-key, no FUSION_API_KEY, and {whose}",
            hint="where the service runs, `fusion key bootstrap` makes one; `fusion key create` makes more",
            code=ExitCode.AUTHENTICATION,
        )
    return path.read_text(encoding="utf-8").strip()


def _stop(message: str, *, hint: str, code: ExitCode) -> NoReturn:
    print_error(message, hint=hint)
    raise typer.Exit(code)
