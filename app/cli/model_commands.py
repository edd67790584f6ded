"""`fusion models`: what can be downloaded, and under which name the hub's tools fetch it."""

from typing import Annotated

import typer

from app.cli.answers import print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import show_time


def models(
    *,
    job: Annotated[str | None, typer.Option(help="Only those of this job.", show_default=False)] = None,
    kind: Annotated[
        str | None, typer.Option(help="registered, fused or promoted.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Exactly this name.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 20,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List models, the newest first. REPOSITORY is what `hf download` and `from_pretrained` take."""
    with connect(url, api_key, data_dir) as client:
        found = client.models(job_id=job, kind=kind, name=name, limit=limit)
    print_answers(
        found,
        ("id", "name", "kind", "job", "created (UTC)", "repository"),
        lambda one: (one.id, one.name, one.kind, one.job_id, show_time(one.created), one.hub_id),
        as_json=as_json,
    )
