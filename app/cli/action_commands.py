"""Commands that change jobs: cancel, pause, resume, retry, clone, priority."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.job_commands import JobArgument, PriorityOption
from app.cli.output import print_json, print_line
from app.cli.paths import explained_path_errors

if TYPE_CHECKING:
    from app.client import Job


def cancel(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Cancel a job. What runs is stopped within seconds."""
    with connect(url, api_key, data_dir) as client:
        job = client.cancel(job_id)
    note = "; nothing was left to cancel" if job.status in ("succeeded", "failed") else ""
    _show_outcome(job, as_json=as_json, note=note)


def pause(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Hold a job where it is. What runs stores what it can and stops; `resume` goes on from there."""
    with connect(url, api_key, data_dir) as client:
        job = client.pause(job_id)
    _show_outcome(job, as_json=as_json)


def resume(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Let a paused job go on."""
    with connect(url, api_key, data_dir) as client:
        job = client.resume(job_id)
    _show_outcome(job, as_json=as_json)


def retry(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Run the failed steps of a job again; what succeeded stays."""
    with connect(url, api_key, data_dir) as client:
        job = client.retry(job_id)
    _show_outcome(job, as_json=as_json)


def clone(
    job_id: JobArgument,
    *,
    overrides: Annotated[
        Path | None,
        typer.Option("--override", help="Partial spec, YAML or JSON: the fields that shall differ."),
    ] = None,
    priority: PriorityOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Submit the spec of a job again, with changes if wanted, and print the new job's id."""
    changes = {} if overrides is None else _read_overrides(overrides)
    with connect(url, api_key, data_dir) as client:
        job = client.clone(job_id, changes, priority=priority)
    if as_json:
        print_json(job.to_json())
    else:
        print_line(job.id)


def priority(
    job_id: JobArgument,
    value: Annotated[int, typer.Argument(min=-10, max=10, help="The job with the higher number goes first.")],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Change which of the project's jobs goes first. A negative number is given after `--`."""
    with connect(url, api_key, data_dir) as client:
        job = client.set_priority(job_id, value)
    _show_outcome(job, as_json=as_json, note=f"; priority {job.priority}")


def _read_overrides(path: Path) -> dict[str, Any]:
    """A partial spec.

    Raises:
        SpecInvalid: no mapping of fields.
    """
    import yaml

    from fusion.errors import SpecInvalid

    with explained_path_errors(code="path_not_readable", hint="mend the path, or make the file readable"):
        text = path.read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecInvalid(f"{path} is neither YAML nor JSON: {error}", code="spec_unreadable") from error
    if not isinstance(data, dict):
        raise SpecInvalid(
            f"{path}: a partial spec is a mapping of fields, got {type(data).__name__}",
            code="spec_unreadable",
            hint="give only the fields that shall differ, e.g. `training: {learning_rate: 5e-6}`",
        )
    return data


def _show_outcome(job: "Job", *, as_json: bool, note: str = "") -> None:
    if as_json:
        print_json(job.to_json())
    else:
        print_line(f"{job.id} {job.status}{note}")
