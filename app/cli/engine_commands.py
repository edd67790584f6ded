"""Commands that need no service: run, cache, validate, schema."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_line

SpecArgument = Annotated[Path, typer.Argument(help="Fusion spec, YAML or JSON.", show_default=False)]


def run(
    spec: SpecArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of this run; the same folder continues a run.")],
    *,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Capture cache that runs share; FUSION_CAPTURE_CACHE_DIR/local or the user's if not given.",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor write a capture cache.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a whole job on this machine, without a service."""
    arguments = [sys.executable, "-m", "fusion", "run", str(spec), "--out", str(out)]
    arguments += [] if cache is None else ["--cache", str(cache)]
    arguments += ["--no-cache"] if no_cache else []
    # The engine needs torch, which this process must not load: it takes this process over instead.
    os.execv(sys.executable, [*arguments, "--json"] if as_json else arguments)


def cache(context: typer.Context) -> None:
    """The capture cache: list, verify, prune."""
    os.execv(sys.executable, [sys.executable, "-m", "fusion", "cache", *context.args])


def validate(
    spec: SpecArgument,
    *,
    remote: Annotated[bool, typer.Option("--remote", help="Also let the service check it.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Check a spec; with --json print it with every default written out."""
    from fusion.plan import plan_steps
    from fusion.spec_text import load_spec

    checked = load_spec(spec)
    answer = None
    if remote:
        with connect(url, api_key, data_dir) as client:
            answer = client.validate(checked)
    if as_json:
        print_json(answer if answer is not None else checked.model_dump(mode="json"))
        return
    names = ", ".join(step.name for step in plan_steps(checked))
    print_line(f"{spec} is valid{' for this service' if remote else ''}; steps: {names}")


def schema(*, as_json: JsonOption = False) -> None:
    """Print the JSON Schema of the spec."""
    from fusion.spec import spec_schema

    del as_json  # a schema is JSON either way
    print_json(spec_schema())
