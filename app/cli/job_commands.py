"""Commands about jobs: submit, list, show, watch."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.answers import print_answer, print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.engine_commands import SpecArgument
from app.cli.output import (
    EXIT_CODE_OF_STATUS,
    print_json,
    print_json_line,
    print_line,
    print_table,
    show_duration,
    show_time,
)
from app.cli.paths import explained_path_errors

if TYPE_CHECKING:
    from app.client import FusionClient, Job, Step

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]
PriorityOption = Annotated[
    int | None,
    typer.Option(min=-10, max=10, help="Which of the project's jobs goes first: the higher one."),
]


def submit(
    spec: SpecArgument,
    *,
    upload: Annotated[
        bool, typer.Option("--upload", help="Send the corpus files along instead of naming their paths.")
    ] = False,
    follow: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    priority: PriorityOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Submit a job and print its id."""
    from fusion.spec_text import load_spec

    checked: Any = load_spec(spec)
    with connect(url, api_key, data_dir) as client:
        wanted = _with_uploads(client, checked.model_dump(mode="json")) if upload else checked
        job = client.submit(wanted, priority=priority)
        if follow:
            # At once: whatever becomes of the watch, the job is known by name.
            if as_json:
                print_json_line({"job": job.to_json(), "steps": [], "events": [], "metrics": []})
            else:
                print_line(job.id)
            _follow(client, job.id, as_json=as_json)
        else:
            print_answer(job, job.id, as_json=as_json)


def list_jobs(
    *,
    status: Annotated[str | None, typer.Option(help="Only jobs in this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, newest first.")] = 20,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    with connect(url, api_key, data_dir) as client:
        jobs = client.list_jobs(status=status, limit=limit)
    print_answers(
        jobs,
        ("id", "name", "status", "done", "created (UTC)"),
        lambda job: (job.id, job.name, job.status, _percent(job), show_time(job.created_at)),
        as_json=as_json,
    )


def show(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a job and its steps."""
    from app.cli.watching import waiting

    with connect(url, api_key, data_dir) as client:
        job, steps = client.get_job(job_id), client.steps(job_id)
        models = client.models(job_id=job_id)
    if as_json:
        print_json(
            {
                "job": job.to_json(),
                "steps": [step.to_json() for step in steps],
                "models": [model.to_json() for model in models],
            }
        )
        return
    facts = [
        ("job", job.id),
        ("name", job.name),
        ("priority", job.priority or None),
        ("clone of", job.cloned_from_id),
        ("status", f"{job.status} {f'({waiting(job)})' if waiting(job) else ''}".rstrip()),
        ("done", _percent(job)),
        ("left", show_duration(job.progress.eta_seconds if job.progress else None)),
        ("finish", show_time(job.progress.estimated_finish_at if job.progress else None)),
        ("created", show_time(job.created_at)),
        ("started", show_time(job.started_at)),
        ("finished", show_time(job.finished_at)),
        *(("model", model.id) for model in models),
    ]
    for name, value in facts:
        if value:
            print_line(f"{name:<9} {value}")
    _explain_error(job)
    print_line("")
    print_table(
        ("step", "status", "attempt", "left"),
        [(step.name, step.status, step.attempt or "", _left(step)) for step in steps],
    )


def watch(
    job_id: JobArgument,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Follow a job to its end: steps, progress and loss. Exits 0, 5 (failed) or 6 (cancelled)."""
    with connect(url, api_key, data_dir) as client:
        _follow(client, job_id, as_json=as_json)


def _follow(client: "FusionClient", job_id: str, *, as_json: bool) -> None:
    """Show a job until it ends, then exit with the code of its status."""
    from app.cli.watching import JobView, LineView, LiveView

    job: Job | None = None
    if as_json:
        for update in client.watch(job_id):
            job = update.job
            print_json_line(
                {
                    "job": job.to_json(),
                    "steps": [step.to_json() for step in update.steps],
                    "events": [event.to_json() for event in update.events],
                    "metrics": [point.to_json() for point in update.metrics],
                }
            )
    else:
        view: JobView = LiveView() if sys.stdout.isatty() else LineView()
        with view:
            for update in client.watch(job_id):
                job = update.job
                view.show(update)
        if job is not None:
            _explain_error(job)
    if job is not None and job.status in EXIT_CODE_OF_STATUS:
        raise typer.Exit(EXIT_CODE_OF_STATUS[job.status])


def _with_uploads(client: "FusionClient", spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with its local corpus files uploaded and named by id.

    Raises:
        SpecInvalid: there is no such file, or the service cannot use it.
    """
    from fusion.errors import SpecInvalid

    for index, file in enumerate(spec["corpus"]["files"]):
        if file["path"] is not None and not Path(file["path"]).is_file():
            raise SpecInvalid(
                f"/corpus/files/{index}/path: there is no file {file['path']}",
                code="path_not_found",
                hint="mend the path; a relative one starts at the folder of the spec",
                pointer=f"/corpus/files/{index}/path",
            )
    for file in spec["corpus"]["files"]:
        if file["path"] is not None:
            with explained_path_errors(code="path_not_readable", hint="make the file readable to you"):
                uploaded = client.upload_file(Path(file["path"]))
            if uploaded.status == "uploaded":
                uploaded = client.wait_for_file(uploaded.id)
            if uploaded.status == "error":
                raise SpecInvalid(
                    f"{file['path']}: {uploaded.status_details}",
                    code="corpus_file_broken",
                    hint="mend the file and submit again",
                )
            file.update(path=None, file_id=uploaded.id)
    return spec


def _explain_error(job: "Job") -> None:
    if job.error is not None:
        print_line(f"error     {job.error.code}: {job.error.message}")
        if job.error.hint:
            print_line(f"hint      {job.error.hint}")
        for line in job.error.log_tail:
            print_line(f"log       {line}")


def _left(step: "Step") -> str:
    """How long a step will take: the rest of one that runs, all of one that is to come."""
    if step.status == "running":
        return show_duration(step.progress.eta_seconds if step.progress is not None else None)
    return show_duration(step.expected_seconds) if step.status in ("pending", "queued") else ""


def _percent(job: "Job") -> str:
    return f"{job.progress.percent:.0f}%" if job.progress is not None else ""
