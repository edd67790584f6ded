"""`fusion webhooks`: where a project is told what happens."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.connection import DEFAULT_DATA_DIR, DataDirOption, JsonOption, KeyOption, UrlOption, connect
from app.cli.output import print_json, print_line, print_table, show_time

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
    _print_secret(made, as_json=as_json)


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
    if as_json:
        print_json([endpoint.to_json() for endpoint in found])
        return
    rows = [(one.id, one.url, _state(one), ",".join(one.event_types)) for one in found]
    print_table(("id", "url", "state", "types"), rows)


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
        _print_state(client.change_webhook_endpoint(endpoint_id, enabled=True), as_json=as_json)


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
        _print_state(client.change_webhook_endpoint(endpoint_id, enabled=False), as_json=as_json)


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
    if as_json:
        print_json({"id": endpoint_id, "deleted": True})
        return
    print_line(f"{endpoint_id} is deleted")


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
        _print_secret(client.rotate_webhook_secret(endpoint_id), as_json=as_json)


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
        _print_queued(client.test_webhook_endpoint(endpoint_id), as_json=as_json)


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
    if as_json:
        print_json([delivery.to_json() for delivery in found])
        return
    rows = [
        (one.id, one.type, one.status, str(len(one.tries)), _last_word(one), show_time(one.next_try_at))
        for one in found
    ]
    print_table(("id", "type", "status", "tries", "last", "next try"), rows)


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
        _print_queued(client.redeliver_webhook(delivery_id), as_json=as_json)


def _print_secret(endpoint: "WebhookEndpoint", *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint.to_json())
        return
    print_line(f"{endpoint.id}  {endpoint.secret}")


def _print_state(endpoint: "WebhookEndpoint", *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint.to_json())
        return
    print_line(f"{endpoint.id} is {_state(endpoint)}")


def _print_queued(delivery: "WebhookDelivery", *, as_json: bool) -> None:
    if as_json:
        print_json(delivery.to_json())
        return
    print_line(f"{delivery.id} is queued")


def _state(endpoint: "WebhookEndpoint") -> str:
    if endpoint.enabled:
        return "enabled" if endpoint.failing_since is None else "failing"
    return "disabled" if endpoint.disabled_reason is None else f"disabled ({endpoint.disabled_reason})"


def _last_word(delivery: "WebhookDelivery") -> str:
    if not delivery.tries:
        return ""
    last = delivery.tries[-1]
    return str(last.status or last.error or "")
