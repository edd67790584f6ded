"""Whoever sends webhooks dies between sending one and saying so, and it is sent again under the same id."""

from pathlib import Path

from sqlalchemy import update

from app.db.base import db_time
from app.db.models import WebhookDelivery
from app.db.session import transaction
from tests.faults.service import answers, running_service, wait_for
from tests.support.receivers import receiving

OPENED = {
    "FUSION_WEBHOOK_ALLOW_HTTP": "true",
    "FUSION_WEBHOOK_PORTS": "",
    "FUSION_WEBHOOK_NETWORKS": "127.0.0.0/8",
}
PLACE = "webhook.sent"


def test_a_death_between_sending_and_marking_sends_again(tmp_path: Path) -> None:
    with (
        receiving() as receiver,
        running_service(tmp_path, "sqlite", num_workers=0, environment=OPENED) as service,
        service.client() as client,
    ):
        endpoint = client.create_webhook_endpoint(url=receiver.url)
        service.arm(PLACE)
        delivery = client.test_webhook_endpoint(endpoint.id)
        wait_for(lambda: service.has_fired(PLACE), what=PLACE)
        assert len(receiver.received) == 1
        with transaction(service.engine) as session:
            # What a minute does.
            session.execute(update(WebhookDelivery).values(leased_until=db_time(-1)))
        wait_for(lambda: bool(service.restart_dead()) or len(receiver.received) > 1, what="who died")

        def arrived() -> bool:
            service.restart_dead()
            return len(receiver.received) > 1

        wait_for(arrived, what="the second try")
        # The API keeps house, too, and may have been the one.
        wait_for(lambda: answers(service.url), what="the API")
        wait_for(lambda: client.webhook_delivery(delivery.id).status == "delivered", what="its mark")

        first, second = receiver.received
        assert first.id == second.id == delivery.event_id
        assert first.body == second.body
        assert [one.number for one in client.webhook_delivery(delivery.id).tries] == [2]
