"""`fusion estimate`: what a spec would take."""

from typing import Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.engine_commands import SpecArgument
from app.cli.output import print_json, print_line, print_table, show_bytes, show_duration


def estimate(
    spec: SpecArgument,
    *,
    steps: Annotated[bool, typer.Option("--steps", help="Also the hours of every step.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Tell what a job would take: tokens, hours, memory, disk, and what stands behind each figure."""
    from fusion.spec_text import load_spec

    checked = load_spec(spec)
    with connect(url, api_key, data_dir) as client:
        found = client.estimate(checked)
    if as_json:
        print_json(found.to_json())
        return
    rows = [(name.replace("_", " "), figure) for name, figure in found.figures.items()]
    if steps:
        rows += list(found.steps.items())
    print_table(
        ("figure", "about", "from", "to", "basis", "why"),
        [
            (
                name,
                *(show_amount(edge, figure.unit) for edge in (figure.value, figure.low, figure.high)),
                figure.basis,
                figure.why,
            )
            for name, figure in rows
        ],
    )
    for warning in found.warnings:
        print_line(f"warning: {warning}")


def show_amount(value: float | None, unit: str) -> str:
    """`3.2 GB`, `1h20m`, `1,800,000`; `?` for what nobody can tell."""
    if value is None:
        return "?"
    if unit == "hours":
        return show_duration(value * 3600)
    return show_bytes(value) if unit == "bytes" else f"{value:,.0f}"
