"""Commands that show what happens to a job: events and logs, as they are or as they come."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.job_commands import JobArgument
from app.cli.output import print_json_line, print_line, show_time

if TYPE_CHECKING:
    from app.client import Event, LogLine

FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]


def events(
    job_id: JobArgument,
    *,
    follow: FollowOption = False,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this type, or a beginning like step_*; repeatable."),
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="Only events after this number.")] = 0,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to a job, an event a line."""
    with connect(url, api_key, data_dir) as client:
        found: Iterable[Event] = (
            client.follow_history(job_id, after=after, types=types or ())
            if follow
            else client.events(job_id, after=after, types=types or ())
        )
        for event in found:
            if as_json:
                print_json_line(event.to_json())
            else:
                print_line(f"{event.seq:>5}  {show_time(event.created_at)}  {event.message or event.type}")


def logs(
    job_id: JobArgument,
    *,
    follow: FollowOption = False,
    step: Annotated[str | None, typer.Option(help="Name or id of a step.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of an attempt.")] = None,
    tail: Annotated[int | None, typer.Option(min=1, max=10_000, help="Only so many lines, the last.")] = None,
    level: Annotated[
        str | None, typer.Option(help="Only lines from this level on: info, warning, error.")
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what the attempts of a job wrote."""
    which = {"step": step, "attempt": attempt, "tail": tail, "level": level}
    with connect(url, api_key, data_dir) as client:
        lines: Iterable[LogLine] = (
            client.follow_logs(job_id, **which) if follow else client.logs(job_id, **which)  # type: ignore[arg-type]
        )
        if as_json:
            for line in lines:
                print_json_line(line.to_json())
        else:
            for text in _with_headings(lines):
                print_line(text)


def _with_headings(lines: Iterable["LogLine"]) -> Iterator[str]:
    """As `tail` shows several files."""
    shown = None
    for line in lines:
        if shown != (line.step_name, line.attempt):
            yield ("" if shown is None else "\n") + f"==> {line.step_name}, attempt {line.attempt} <=="
            shown = (line.step_name, line.attempt)
        yield line.text
