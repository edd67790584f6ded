"""`fusion audit`: who asked for which change."""

from typing import Annotated

import typer

from app.cli.answers import print_answers
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import show_time


def audit(
    *,
    action: Annotated[str | None, typer.Option(help="Like submit_job.", show_default=False)] = None,
    object_id: Annotated[
        str | None, typer.Option("--object", help="Id of what was changed.", show_default=False)
    ] = None,
    key_id: Annotated[
        str | None, typer.Option("--key", help="Id of the key that asked.", show_default=False)
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="done, refused or failed.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the requests that asked for a change, the newest first."""
    with connect(url, api_key, data_dir) as client:
        events = client.audit_events(
            action=action, object_id=object_id, key_id=key_id, outcome=outcome, limit=limit
        )
    print_answers(
        events,
        ("time", "key", "address", "action", "object", "outcome"),
        lambda event: (
            show_time(event.created_at),
            event.key_id,
            event.address,
            event.action,
            event.object_id,
            event.outcome if event.code is None else f"{event.outcome}: {event.code}",
        ),
        as_json=as_json,
    )
