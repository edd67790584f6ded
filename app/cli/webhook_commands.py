"""`fusion webhooks`: where a project is told what happens."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.answers import print_answer, print_answers, print_ended
from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import show_time

if TYPE_CHECKING:
    from app.client import WebhookDelivery, WebhookEndpoint

webhook_app = typer.Typer(
    help="Create, list, test, enable, rotate and delete webhook endpoints; see and repeat deliveries.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EndpointId = Annotated[str, typer.Argument(help="Id of the endpoint.", show_default=False)]
DeliveryId = Annotated[str, typer.Argument(help="Id of the delivery.", show_default=False)]
TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="What it is told, e.g. fusion.model.created; may be repeated."),
]


@webhook_app.command()
def create(
    address: Annotated[str, typer.Argument(help="https URL of the receiver.", show_default=False)],
    *,
    event_type: TypeOption = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Create an endpoint, by default for the ends of jobs. Its secret is shown once."""
    with connect(url, api_key, data_dir) as client:
        made = client.create_webhook_endpoint(url=address, event_types=event_type, description=description)
    print_answer(made, _secret(made), as_json=as_json)


@webhook_app.command("list")
def list_endpoints(
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the endpoints, without their secrets."""
    with connect(url, api_key, data_dir) as client:
        found = client.list_webhook_endpoints()
    print_answers(
        found,
        ("id", "url", "state", "types"),
        lambda one: (one.id, one.url, _state(one), ",".join(one.event_types)),
        as_json=as_json,
    )


@webhook_app.command()
def enable(
    endpoint_id: EndpointId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Enable an endpoint; what waits for it is sent."""
    with connect(url, api_key, data_dir) as client:
        changed = client.change_webhook_endpoint(endpoint_id, enabled=True)
    print_answer(changed, f"{changed.id} is {_state(changed)}", as_json=as_json)


@webhook_app.command()
def disable(
    endpoint_id: EndpointId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Send nothing there for now."""
    with connect(url, api_key, data_dir) as client:
        changed = client.change_webhook_endpoint(endpoint_id, enabled=False)
    print_answer(changed, f"{changed.id} is {_state(changed)}", as_json=as_json)


@webhook_app.command()
def delete(
    endpoint_id: EndpointId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Remove an endpoint with its deliveries."""
    with connect(url, api_key, data_dir) as client:
        client.delete_webhook_endpoint(endpoint_id)
    print_ended(endpoint_id, as_json=as_json)


@webhook_app.command()
def rotate(
    endpoint_id: EndpointId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Give an endpoint a new secret, shown once. The old one signs too for 24 hours."""
    with connect(url, api_key, data_dir) as client:
        rotated = client.rotate_webhook_secret(endpoint_id)
    print_answer(rotated, _secret(rotated), as_json=as_json)


@webhook_app.command("test")
def send_test(
    endpoint_id: EndpointId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Send a webhook for a test; `fusion webhooks deliveries` says what became of it."""
    with connect(url, api_key, data_dir) as client:
        queued = client.test_webhook_endpoint(endpoint_id)
    print_answer(queued, f"{queued.id} is queued", as_json=as_json)


@webhook_app.command()
def deliveries(
    endpoint_id: EndpointId,
    *,
    status: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List what was, is or will be sent to an endpoint, the newest first."""
    with connect(url, api_key, data_dir) as client:
        found = client.webhook_deliveries(endpoint_id, status=status, limit=limit)
    print_answers(
        found,
        ("id", "type", "status", "tries", "last", "next try"),
        lambda one: (
            one.id,
            one.type,
            one.status,
            len(one.tries),
            _last_word(one),
            show_time(one.next_try_at),
        ),
        as_json=as_json,
    )


@webhook_app.command()
def redeliver(
    delivery_id: DeliveryId,
    *,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Send a delivery again, or now where it waits."""
    with connect(url, api_key, data_dir) as client:
        queued = client.redeliver_webhook(delivery_id)
    print_answer(queued, f"{queued.id} is queued", as_json=as_json)


def _secret(endpoint: "WebhookEndpoint") -> str:
    return f"{endpoint.id}  {endpoint.secret}"


def _state(endpoint: "WebhookEndpoint") -> str:
    if endpoint.enabled:
        return "enabled" if endpoint.failing_since is None else "failing"
    return "disabled" if endpoint.disabled_reason is None else f"disabled ({endpoint.disabled_reason})"


def _last_word(delivery: "WebhookDelivery") -> str:
    if not delivery.tries:
        return ""
    last = delivery.tries[-1]
    return str(last.status or last.error or "")
