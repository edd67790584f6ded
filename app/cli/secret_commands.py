"""`fusion secret`: tokens for private repositories of a hub, which specs name."""

import sys
from typing import Annotated

import typer

from app.cli.answers import print_answer, print_answers, print_ended
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import show_time

secret_app = typer.Typer(help="Store, list and delete secrets.", no_args_is_help=True, rich_markup_mode=None)


@secret_app.command()
def create(
    name: Annotated[str, typer.Argument(help="What specs call it.", show_default=False)],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Store a secret. Its value is read from standard input, or asked for; nobody reads it back."""
    if sys.stdin.isatty():
        value = typer.prompt("value", hide_input=True, err=True)
    else:
        value = sys.stdin.read().strip()
    with connect(url, api_key, data_dir) as client:
        secret = client.create_secret(name=name, value=value)
    print_answer(secret, secret.id, as_json=as_json)


@secret_app.command("list")
def list_secrets(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the secrets, without their values."""
    with connect(url, api_key, data_dir) as client:
        secrets = client.list_secrets()
    print_answers(
        secrets,
        ("id", "name", "created", "by"),
        lambda one: (one.id, one.name, show_time(one.created_at), one.created_by),
        as_json=as_json,
    )


@secret_app.command()
def delete(
    secret_id: Annotated[str, typer.Argument(help="Id of the secret.", show_default=False)],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Forget a secret at once. Jobs that name it fail where they need it, and can be retried."""
    with connect(url, api_key, data_dir) as client:
        client.delete_secret(secret_id)
    print_ended(secret_id, as_json=as_json)
