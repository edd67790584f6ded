"""`fusion checkpoints` and `fusion promote`: what a training stored on its way, and a model of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.answers import print_answer, print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.job_commands import JobArgument
from app.cli.output import show_bytes, show_time

if TYPE_CHECKING:
    from app.client import Promotion


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
    print_answers(
        found,
        ("id", "training", "steps", "loss", "size", "created (UTC)", "model"),
        lambda one: (
            one.id,
            one.step_name,
            one.step,
            _loss(one.metrics.get("loss"), is_best=one.is_best),
            show_bytes(one.num_bytes),
            show_time(one.created_at),
            one.model_id,
        ),
        as_json=as_json,
    )


def promote(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Id of the checkpoint.", show_default=False)
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the model; job and step number if not given.", show_default=False)
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="For the model, or say where it stands and end.")
    ] = True,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Make a model of a checkpoint and print its id. Called again, it prints the same one.

    The service reads every byte first, and goes on when this command is ended.
    """
    with connect(url, api_key, data_dir) as client:
        if not wait:
            promotion = client.ask_promotion(checkpoint, name=name)
            print_answer(promotion, _where_it_stands(promotion), as_json=as_json)
            return
        model = client.promote(checkpoint, name=name)
    print_answer(model, model.id, as_json=as_json)


def _where_it_stands(promotion: "Promotion") -> str:
    read, whole = show_bytes(promotion.num_bytes_read), show_bytes(promotion.num_bytes)
    return promotion.model_id or f"{promotion.checkpoint_id} is {promotion.status}: {read} of {whole} read"


def _loss(loss: float | None, *, is_best: bool) -> str | None:
    if loss is None:
        return None
    return f"{loss:.4g}" + (" (lowest)" if is_best else "")
