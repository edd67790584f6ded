"""`fusion key`: API keys of the service."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.answers import print_answer, print_answers, print_ended
from app.cli.connection import (
    ADMIN_KEY_FILE,
    DEFAULT_DATA_DIR,
    DataDirOption,
    JsonOption,
    KeyOption,
    UrlOption,
    connect,
)
from app.cli.output import print_json, print_line, show_time
from app.cli.paths import explained_path_errors

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR

key_app = typer.Typer(
    help="Create, list, rotate and revoke API keys.", no_args_is_help=True, rich_markup_mode=None
)


@key_app.command()
def bootstrap(
    *,
    file: Annotated[
        Path | None,
        typer.Option(help=f"Where the key is kept; {ADMIN_KEY_FILE} in the data folder if not given."),
    ] = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make the first admin key where the database is, in a file only its owner can read. Does nothing while
    the key in the file works. Settings come from FUSION_* variables."""
    from app.accounts.bootstrap import make_first_key
    from app.settings import load_settings

    settings = load_settings(data_dir=data_dir)
    path = file or settings.data_dir / ADMIN_KEY_FILE
    with explained_path_errors(
        code="key_file_unusable", hint="give a --file and a --data-dir in folders that you may write to"
    ):
        make_first_key(settings, path=path)
    if as_json:
        print_json({"admin_key_file": str(path)})
        return
    print_line(f"admin key: {path}")


@key_app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.", show_default=False)],
    *,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, help="When it stops; never if not given.", show_default=False)
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write, admin, operator, jobs:read, ...; may be repeated.")
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a key. Its secret is shown once."""
    with connect(url, api_key, data_dir) as client:
        seconds = None if expires_in_days is None else expires_in_days * SECONDS_PER_DAY
        created = client.create_key(name=name, scopes=scope, expires_in_seconds=seconds)
    print_answer(created, created.secret or "", as_json=as_json)


@key_app.command("list")
def list_keys(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the keys, without their secrets."""
    with connect(url, api_key, data_dir) as client:
        keys = client.list_keys()
    print_answers(
        keys,
        ("id", "name", "prefix", "scopes", "expires", "last used"),
        lambda key: (
            key.id,
            key.name,
            key.prefix,
            ",".join(key.scopes),
            show_time(key.expires_at),
            show_time(key.last_used_at),
        ),
        as_json=as_json,
    )


@key_app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="Id of the key.", show_default=False)],
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=1, max=720, help="How long the old key works beside the new one.")
    ] = 24,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create the key that takes the place of another. Its secret is shown once."""
    with connect(url, api_key, data_dir) as client:
        created = client.rotate_key(key_id, overlap_seconds=overlap_hours * SECONDS_PER_HOUR)
    print_answer(created, created.secret or "", as_json=as_json)


@key_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.", show_default=False)],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key at once."""
    with connect(url, api_key, data_dir) as client:
        client.revoke_key(key_id)
    print_ended(key_id, how="revoked", as_json=as_json)
