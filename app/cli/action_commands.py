"""Commands that change jobs: cancel, pause, resume, retry, clone, priority."""

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.answers import print_answer
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.job_commands import JobArgument, PriorityOption
from app.cli.paths import explained_path_errors


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
    print_answer(job, f"{job.id} {job.status}{note}", as_json=as_json)


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
    print_answer(job, f"{job.id} {job.status}", as_json=as_json)


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
    print_answer(job, f"{job.id} {job.status}", as_json=as_json)


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
    print_answer(job, f"{job.id} {job.status}", as_json=as_json)


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
    print_answer(job, job.id, as_json=as_json)


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
    print_answer(job, f"{job.id} {job.status}; priority {job.priority}", as_json=as_json)


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
