"""`fusion download`: the fused checkpoint, resumed and verified."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_line, show_bytes, terminal
from app.cli.paths import explained_path_errors

if TYPE_CHECKING:
    from app.client import FusionClient
    from app.client.download import OnProgress

_PREFIXES = ("job-", "model-", "art-")


def download(
    what: Annotated[
        str, typer.Argument(metavar="ID", help="Job, model or artifact to download.", show_default=False)
    ],
    into: Annotated[
        Path | None,
        typer.Argument(help="Folder to write to; named after ID if not given.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Connections at a time.")] = 4,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Download a fused model and verify every file. Called again, it continues where it stopped."""
    folder = out or into or Path(what)
    unusable = explained_path_errors(
        code="folder_unusable", hint="give a new folder, or one that you may write to"
    )
    with connect(url, api_key, data_dir) as client, unusable:
        if sys.stdout.isatty() and not as_json:
            _download_with_bar(client, what, folder, parallel=parallel)
        else:
            _download(client, what, folder, parallel=parallel)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if as_json:
        print_json({"id": what, "folder": str(folder), "files": files})
    else:
        print_line(f"{folder}: {len(files)} files, digests verified")


def _download(
    client: "FusionClient", what: str, into: Path, *, parallel: int, on_progress: "OnProgress | None" = None
) -> None:
    from app.client import NotFoundError

    fetch = client.download_artifact if what.startswith("art-") else client.download_model
    try:
        fetch(what, into, parallel=parallel, on_progress=on_progress)
    except NotFoundError as error:
        if what.startswith(_PREFIXES):
            raise
        raise NotFoundError(
            f"no job, model or artifact {what}",
            status=error.status,
            code="not_found",
            hint="`fusion list` shows the jobs, and `fusion show JOB` its model",
        ) from error


def _download_with_bar(client: "FusionClient", what: str, into: Path, *, parallel: int) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn(), console=terminal())
    task = bar.add_task("")

    def on_progress(present: int, total: int) -> None:
        text = f"{show_bytes(present)} of {show_bytes(total)}"
        bar.update(task, completed=present, total=total, description=text)

    with bar:
        _download(client, what, into, parallel=parallel, on_progress=on_progress)
