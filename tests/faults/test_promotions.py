"""Whoever reads a checkpoint for its promotion dies before it says so, and another one makes the model."""

from pathlib import Path

from sqlalchemy import update

from app.db.base import db_time
from app.db.models import Promotion
from app.db.session import transaction
from tests.faults.service import answers, running_service, wait_for
from tests.support.stored_checkpoints import store_checkpoint, training_step

PLACE = "promotion.read"
QUICK = {"FUSION_POLL_SECONDS": "0.1"}


def test_a_promotion_survives_the_death_of_whoever_reads(tmp_path: Path) -> None:
    with (
        running_service(tmp_path, "sqlite", num_workers=0, environment=QUICK) as service,
        service.client() as client,
    ):
        step = training_step(service.engine)
        checkpoint_id = store_checkpoint(service.engine, service.store, step, tmp_path / "out", number=2)
        service.arm(PLACE)
        client.ask_promotion(checkpoint_id)
        wait_for(lambda: service.has_fired(PLACE), what=PLACE)
        with transaction(service.engine) as session:
            # What a minute does.
            session.execute(update(Promotion).values(leased_until=db_time(-1)))
        wait_for(lambda: bool(service.restart_dead()), what="who died")
        # The API keeps house, too, and may have been the one.
        wait_for(lambda: answers(service.url), what="the API")

        model = client.promote(checkpoint_id, poll_seconds=0.1)

        assert model.checkpoint_id == checkpoint_id
        assert [found.id for found in client.models()] == [model.id]
        into = client.download_model(model.id, tmp_path / "fetched")
        assert (into / "model.safetensors").read_bytes() == b"weights after 2"
