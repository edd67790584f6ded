"""The engine on its own: `python -m fusion run spec.yaml --out runs/x`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fusion.cache_commands import DEFAULT_CACHE_TEXT, cache_app, default_cache
from fusion.errors import FusionError
from fusion.spec import spec_schema
from fusion.spec_text import load_spec

app = typer.Typer(help="Knowledge fusion of language models, without the service.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

SpecPath = Annotated[Path, typer.Argument(help="Fusion spec, YAML or JSON.")]


@app.command()
def run(
    spec_path: SpecPath,
    out: Annotated[Path, typer.Option(help="Folder of this run; the same folder continues a run.")],
    *,
    cache: Annotated[
        Path | None,
        typer.Option(help="Capture cache that runs share.", show_default=DEFAULT_CACHE_TEXT),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor write a capture cache.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run a whole job on this machine and print where the model is."""
    from fusion.console import Bars, report_view
    from fusion.io.atomic import read_json
    from fusion.pipeline import run_local

    spec = load_spec(spec_path)
    with Bars(Console(stderr=True)) as bars:
        result = run_local(
            spec,
            out,
            progress_of=bars.step,
            capture_cache=None if no_cache else cache or default_cache(),
        )
    if as_json:
        print_json({"model": str(result.model), "report": str(result.report), "figures": result.figures})
        return
    console = Console()
    console.print(report_view(read_json(result.report)))
    console.print(f"fused model: {result.model}")


@app.command()
def validate(spec_path: SpecPath) -> None:
    """Check a spec and print it with every default written out."""
    print_json(load_spec(spec_path).model_dump(mode="json"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the spec."""
    print_json(spec_schema())


@app.command(hidden=True)
def stage(
    request: Annotated[Path, typer.Argument(help="Request file written by the supervisor.")],
    events_fd: Annotated[int, typer.Option(help="Descriptor that takes the events.")],
    secrets_fd: Annotated[int | None, typer.Option(help="Descriptor that gives the secrets.")] = None,
) -> None:
    """Run one stage for a supervisor."""
    from fusion.stage_process import run_request

    raise typer.Exit(run_request(request, events_descriptor=events_fd, secrets_descriptor=secrets_fd))


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Entry point: errors of the user's are one clear paragraph, never a traceback."""
    try:
        app()
    except FusionError as error:
        console = Console(stderr=True, highlight=False)
        where = f" at {error.pointer}" if error.pointer else ""
        console.print(f"[bold red]error[/] {error.code}{where}: ", end="")
        console.print(error.message, markup=False)
        if error.hint:
            console.print(f"  {error.hint}", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
