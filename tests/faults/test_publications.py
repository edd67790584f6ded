"""Whoever sends a model dies after it, and another one finds it there."""

import uuid
from pathlib import Path

from sqlalchemy import update

from app.db.base import db_time
from app.db.models import Publication
from app.db.session import transaction
from tests.faults.service import answers, running_service, wait_for
from tests.support.object_store import s3_client
from tests.support.stored_models import store_model

PLACE = "publication.sent"


def test_a_publication_survives_the_death_of_whoever_sends(tmp_path: Path, s3_server: str) -> None:
    bucket = f"models-{uuid.uuid4().hex[:12]}"
    s3_client(s3_server).create_bucket(Bucket=bucket)
    allowed = {"FUSION_POLL_SECONDS": "0.1", "FUSION_PUBLISH_ORIGINS": s3_server}
    with (
        running_service(tmp_path, "sqlite", num_workers=0, environment=allowed) as service,
        service.client() as client,
    ):
        folder = tmp_path / "wise"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        model = store_model(service.engine, service.store, folder)
        client.create_secret(name="keys", value="a-secret-access-key")
        service.arm(PLACE)
        wanted = {
            "target": "s3",
            "url": f"s3://{bucket}/wise",
            "endpoint": s3_server,
            "access_key_id": "AKIAUSER",
            "secret": "keys",
        }
        asked = client.ask_publication(model.model_id, wanted)
        wait_for(lambda: service.has_fired(PLACE), what=PLACE)
        with transaction(service.engine) as session:
            # What some minutes do.
            session.execute(update(Publication).values(leased_until=db_time(-1)))
        wait_for(lambda: bool(service.restart_dead()), what="who died")
        # The API keeps house, too, and may have been the one.
        wait_for(lambda: answers(service.url), what="the API")

        wait_for(lambda: client.get_publication(asked.id).is_finished, what="its end")

        done = client.get_publication(asked.id)
        assert (done.status, done.url) == ("succeeded", f"s3://{bucket}/wise")
        types = [event.type for event in client.events(model.job_id)]
        assert types.count("model_published") == 1
