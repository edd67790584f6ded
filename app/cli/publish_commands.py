"""`fusion publish`: models, copied to a hub, a bucket or an MLflow server."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.answers import print_answer, print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_error, show_bytes, show_time

if TYPE_CHECKING:
    from app.client import FusionClient, Publication

publish_app = typer.Typer(
    help="Publish models to a hub, a bucket or an MLflow server; list and cancel publications.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Id of the model: `fusion models`.", show_default=False)
]
PublicationArgument = Annotated[
    str, typer.Argument(metavar="PUBLICATION", help="Id of the publication.", show_default=False)
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Until it is there, or say where it stands and end.")
]


@publish_app.command("hf")
def to_hub(
    model: ModelArgument,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="namespace/name.", show_default=False)],
    *,
    secret: Annotated[
        str, typer.Option(help="The secret with the token: `fusion secret create`.", show_default=False)
    ],
    branch: Annotated[str, typer.Option(help="It is made if it is not there.")] = "main",
    public: Annotated[
        bool, typer.Option("--public", help="If the repository is made, let everybody see it.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.", show_default=False)] = None,
    wait: WaitOption = True,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Commit a model to a repository of the hub, and print where it is."""
    destination = {
        "target": "hf",
        "repo": repo,
        "branch": branch,
        "private": not public,
        "message": message,
        "secret": secret,
    }
    with connect(url, api_key, data_dir) as client:
        publication = _publish(client, model, destination, wait=wait)
    print_answer(publication, _where_it_stands(publication), as_json=as_json)


@publish_app.command("s3")
def to_bucket(
    model: ModelArgument,
    folder: Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/folder.", show_default=False)],
    *,
    access_key_id: Annotated[str, typer.Option(help="Who writes there.", show_default=False)],
    secret: Annotated[
        str,
        typer.Option(
            help="The secret with the secret access key: `fusion secret create`.", show_default=False
        ),
    ],
    region: Annotated[str, typer.Option(help="Of the bucket.")] = "us-east-1",
    endpoint: Annotated[
        str | None, typer.Option(help="URL of a server other than AWS.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    wait: WaitOption = True,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Put a model into a folder of a bucket, and print where it is."""
    destination = {
        "target": "s3",
        "url": folder,
        "region": region,
        "endpoint": endpoint,
        "access_key_id": access_key_id,
        "secret": secret,
        "overwrite": overwrite,
    }
    with connect(url, api_key, data_dir) as client:
        publication = _publish(client, model, destination, wait=wait)
    print_answer(publication, _where_it_stands(publication), as_json=as_json)


@publish_app.command("mlflow")
def to_mlflow(
    model: ModelArgument,
    tracking_uri: Annotated[
        str, typer.Argument(metavar="URL", help="Of the MLflow server.", show_default=False)
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the registered model.", show_default=False)],
    *,
    experiment: Annotated[str, typer.Option(help="Of the run that holds the files.")] = "fusion",
    username: Annotated[
        str | None, typer.Option(help="Whose password the secret is.", show_default=False)
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(help="The secret with the token or password.", show_default=False),
    ] = None,
    wait: WaitOption = True,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a model a version of a registered model of an MLflow server, and print where it is."""
    destination = {
        "target": "mlflow",
        "tracking_uri": tracking_uri,
        "name": name,
        "experiment": experiment,
        "username": username,
        "secret": secret,
    }
    with connect(url, api_key, data_dir) as client:
        publication = _publish(client, model, destination, wait=wait)
    print_answer(publication, _where_it_stands(publication), as_json=as_json)


@publish_app.command("list")
def list_publications(
    *,
    model: Annotated[str | None, typer.Option(help="Only those of this model.", show_default=False)] = None,
    status: Annotated[
        str | None,
        typer.Option(help="queued, running, succeeded, failed or cancelled.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 20,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List publications, the newest first."""
    with connect(url, api_key, data_dir) as client:
        found = client.publications(model_id=model, status=status, limit=limit)
    print_answers(
        found,
        ("id", "model", "target", "status", "asked (UTC)", "where"),
        lambda one: (
            one.id,
            one.model_id,
            one.target,
            one.status,
            show_time(one.created_at),
            one.url or (one.error or {}).get("message"),
        ),
        as_json=as_json,
    )


@publish_app.command()
def show(
    publication: PublicationArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Say where a publication stands."""
    with connect(url, api_key, data_dir) as client:
        found = client.get_publication(publication)
    print_answer(found, _where_it_stands(found), as_json=as_json)


@publish_app.command()
def cancel(
    publication: PublicationArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """End a publication that is not finished."""
    with connect(url, api_key, data_dir) as client:
        found = client.cancel_publication(publication)
    print_answer(found, _where_it_stands(found), as_json=as_json)


def _publish(
    client: "FusionClient", model: str, destination: Mapping[str, Any], *, wait: bool
) -> "Publication":
    if not wait:
        return client.ask_publication(model, destination)
    told = ""

    def tell(publication: "Publication") -> None:
        """A try in vain, once: the next one may be hours away."""
        nonlocal told
        trouble = _trouble(publication)
        if trouble and trouble != told:
            print_error(trouble, hint="it goes on by itself; `fusion publish cancel` ends it")
        told = trouble

    return client.publish(model, destination, on_change=tell)


def _trouble(publication: "Publication") -> str:
    if publication.error is None or publication.next_try_at is None:
        return ""
    return f"{publication.error['message']}; tried again at {show_time(publication.next_try_at)} UTC"


def _where_it_stands(publication: "Publication") -> str:
    if publication.url is not None:
        return publication.url
    sent, whole = show_bytes(publication.num_bytes_sent), show_bytes(publication.num_bytes)
    trouble = (publication.error or {}).get("message")
    return f"{publication.id} is {publication.status}: {sent} of {whole} sent" + (
        f"; {trouble}" if trouble else ""
    )
