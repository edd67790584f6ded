"""`fusion checkpoints` and `fusion promote`: what a training stored on its way, and a model of it."""

from typing import Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.job_commands import JobArgument
from app.cli.output import print_json, print_line, print_table, show_bytes, show_time


def checkpoints(
    job: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the checkpoints of a job that are there, the oldest first."""
    with connect(url, api_key, data_dir) as client:
        found = client.checkpoints(job)
    if as_json:
        print_json([checkpoint.to_json() for checkpoint in found])
        return
    rows = [
        (
            checkpoint.id,
            checkpoint.step_name,
            checkpoint.step,
            _loss(checkpoint.metrics.get("loss"), is_best=checkpoint.is_best),
            show_bytes(checkpoint.num_bytes),
            show_time(checkpoint.created_at),
            checkpoint.model_id,
        )
        for checkpoint in found
    ]
    print_table(("id", "training", "steps", "loss", "size", "created (UTC)", "model"), rows)


def promote(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Id of the checkpoint.", show_default=False)
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the model; job and step number if not given.", show_default=False)
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a model of a checkpoint and print its id. Called again, it prints the same one."""
    with connect(url, api_key, data_dir) as client:
        model = client.promote(checkpoint, name=name)
    if as_json:
        print_json(model.to_json())
    else:
        print_line(model.id)


def _loss(loss: float | None, *, is_best: bool) -> str | None:
    if loss is None:
        return None
    return f"{loss:.4g}" + (" (lowest)" if is_best else "")
