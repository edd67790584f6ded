"""`fusion usage`: what a project uses, against its limits."""

from typing import Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_line, print_table, show_bytes, show_duration


def usage(
    *,
    months: Annotated[int, typer.Option(min=1, max=24, help="Of how many months compute is shown.")] = 3,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show what the project uses of its limits, what it stores, and how long it computed."""
    with connect(url, api_key, data_dir) as client:
        found = client.usage(months=months)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        (name, _amount(name, item.used), "none" if item.limit is None else _amount(name, item.limit))
        for name, item in found.quotas.items()
    ]
    print_table(("quota", "used", "limit"), rows)
    print_line("")
    print_table(
        ("stored", "bytes"), [(kind, show_bytes(size)) for kind, size in found.stored_bytes_by_kind.items()]
    )
    print_line("")
    computed = [
        (item.month, show_duration(item.gpu_seconds), show_duration(item.cpu_seconds), item.num_attempts)
        for item in found.compute_by_month
    ]
    print_table(("month", "GPU time", "CPU time", "attempts"), computed)


def _amount(name: str, value: float) -> str:
    return show_bytes(value) if name == "stored_bytes" else f"{value:g}"
