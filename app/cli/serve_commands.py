"""`fusion serve` and `fusion worker`: the service itself."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption
from app.cli.output import print_json_line, print_line


class Queue(StrEnum):
    """Kinds of steps a worker can take."""

    CPU = "cpu"
    GPU = "gpu"


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(envvar="FUSION_HOST", help="Address to listen on; this machine only if not given."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(envvar="FUSION_PORT", help="Port to listen on; 0 chooses a free one.")
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    allowed_root: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder from which specs may read models and corpora; may be repeated.",
        ),
    ] = None,
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Also run a worker.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Run the service on this machine: API and one worker, everything in one folder, nothing to install."""
    from app.cli.serving import run_service
    from app.settings import load_settings

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "allowed_roots": tuple(allowed_root or ()) or None,
    }
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})

    def announce(url: str, key_file: Path) -> None:
        if as_json:
            print_json_line({"url": url, "admin_key_file": str(key_file), "data_dir": str(settings.data_dir)})
            return
        print_line(f"fusion is at {url} (API description: {url}/docs)")
        print_line(f"admin key: {key_file}")
        print_line(f"commands on this machine find both by themselves (--data-dir {data_dir})")

    run_service(settings, with_worker=with_worker, announce=announce)


def worker(
    *,
    queue: Annotated[
        list[Queue] | None, typer.Option(help="What to work on; may be repeated. Both if not given.")
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Run a worker that asks the database for work. Settings come from FUSION_* variables."""
    del as_json  # its log is JSON either way
    arguments = [sys.executable, "-m", "workers"]
    for kind in queue or list(Queue):
        arguments += ["--queue", kind.value]
    # The worker is another program: the service must not import it.
    os.execve(sys.executable, arguments, {**os.environ, "FUSION_DATA_DIR": str(data_dir)})
