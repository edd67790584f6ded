"""`fusion project`: the tenants of a service, for its operators. `FUSION_PROJECT` acts for one of them."""

from typing import Annotated

import typer

from app.cli.answers import print_answer, print_answers, print_ended
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_table, show_time

project_app = typer.Typer(
    help="Create, list, rename and delete projects.", no_args_is_help=True, rich_markup_mode=None
)

ProjectId = Annotated[str, typer.Argument(help="Id of the project.", show_default=False)]
ProjectName = Annotated[str, typer.Argument(help="No two projects have the same.", show_default=False)]


@project_app.command()
def create(
    name: ProjectName,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create a project. Its first key: `FUSION_PROJECT=<id> fusion key create NAME --scope admin`."""
    with connect(url, api_key, data_dir) as client:
        project = client.create_project(name=name)
    print_answer(project, project.id, as_json=as_json)


@project_app.command("list")
def list_projects(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the projects that the key sees: all of them for an operator."""
    with connect(url, api_key, data_dir) as client:
        projects = client.list_projects()
    print_answers(
        projects,
        ("id", "name", "created"),
        lambda one: (one.id, one.name, show_time(one.created_at)),
        as_json=as_json,
    )


@project_app.command()
def rename(
    project_id: ProjectId,
    name: ProjectName,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Give a project another name."""
    with connect(url, api_key, data_dir) as client:
        project = client.rename_project(project_id, name=name)
    print_answer(project, f"{project.id} is called {project.name}", as_json=as_json)


@project_app.command()
def quota(
    project_id: ProjectId,
    limits: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=LIMIT...",
            help="queued_jobs, running_jobs, stored_bytes, gpu_hours_per_month; a number, or `none`.",
            show_default=False,
        ),
    ],
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Set limits of a project; the others stay. `fusion usage` shows what is used of them."""
    wanted = dict(_limit(text) for text in limits)
    with connect(url, api_key, data_dir) as client:
        project = client.change_quotas(project_id, **wanted)
    if as_json:
        print_json(project.to_json())
        return
    rows = [(name, "none" if limit is None else f"{limit:g}") for name, limit in project.quotas.items()]
    print_table(("quota", "limit"), rows)


def _limit(text: str) -> tuple[str, float | None]:
    name, _, value = text.partition("=")
    if value == "none":
        return name, None
    try:
        return name, float(value) if "." in value else int(value)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: expected NAME=NUMBER or NAME=none") from error


@project_app.command()
def delete(
    project_id: ProjectId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """End a project whose jobs have ended: its keys stop, and its files, models and artifacts go for good."""
    if not yes:
        typer.confirm(f"delete {project_id} with everything that is stored in it?", abort=True, err=True)
    with connect(url, api_key, data_dir) as client:
        client.delete_project(project_id)
    print_ended(project_id, as_json=as_json)
