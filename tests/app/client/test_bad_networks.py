"""Real processes over a network that breaks: downloads and uploads go on until they are complete."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest
from sqlalchemy import Engine

from app.client import FusionClient, UnreachableError
from app.client.transport import Transport
from app.client.uploading import upload_in_parts
from app.db.session import create_engine
from app.storage.opening import open_store
from fusion.failpoints import FIRED_SUFFIX
from tests.support.api_process import ApiProcess, running_api
from tests.support.cutting_proxy import Cuts, cutting_proxy
from tests.support.services import free_port
from tests.support.stored_models import StoredModel, store_model

NUM_CUTS = 100
MEMORY_FOR_ANY_DOWNLOAD = 100 << 20
SPARSE_BYTES = int(os.environ.get("FUSION_TEST_DOWNLOAD_BYTES", "200000000"))
"""Set it to 5000000000 for a file as large as any upload may be."""


@contextmanager
def opened(api: ApiProcess) -> Iterator[Engine]:
    engine = create_engine(api.settings.database_url)
    yield engine
    engine.dispose()


def publish(api: ApiProcess, folder: Path) -> StoredModel:
    with opened(api) as engine:
        return store_model(engine, open_store(api.settings.storage_url), folder)


def fusion(*words: str, api: ApiProcess, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FUSION_URL": url, "FUSION_API_KEY": api.key}
    command = [sys.executable, "-m", "app.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_a_download_survives_a_hundred_cut_connections(tmp_path: Path) -> None:
    source = random.Random(0)
    folder = tmp_path / "out"
    folder.mkdir()
    contents = {f"model-{number}.safetensors": source.randbytes(9 << 20) for number in range(4)}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    # Now and then a connection breaks before the first byte.
    cuts = Cuts(after=(0, 700_000), limit=NUM_CUTS)
    with running_api(tmp_path / "api") as api, cutting_proxy(api.port, cuts) as url:
        model = publish(api, folder)

        done = fusion("download", model.model_id, str(tmp_path / "fused"), api=api, url=url)

    assert done.returncode == 0, done.stderr
    # Connections that are open at once may take one more each.
    assert cuts.num_cut >= NUM_CUTS
    for name, data in contents.items():
        assert (tmp_path / "fused" / name).read_bytes() == data
    assert len(list((tmp_path / "fused").iterdir())) == len(contents) + 1


def test_a_large_download_costs_the_service_no_memory(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(SPARSE_BYTES)
    with running_api(tmp_path / "api") as api:
        model = publish(api, folder)
        url = f"{api.url}/v1/artifacts/{model.artifact_id}/content?path=model.safetensors"
        before = highest = api.memory_bytes()
        num_bytes = 0
        with httpx2.stream("GET", url, headers=api.headers, timeout=60) as whole:
            for number, piece in enumerate(whole.iter_raw()):
                num_bytes += len(piece)
                if number % 500 == 0:
                    highest = max(highest, api.memory_bytes())

    assert num_bytes == SPARSE_BYTES
    assert highest - before < MEMORY_FOR_ANY_DOWNLOAD


def test_an_upload_continues_after_the_service_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"".join(b'{"text": "document %d"}\n' % number for number in range(200_000)))
    failpoints, port = tmp_path / "failpoints", free_port()
    failpoints.mkdir()
    (failpoints / "upload.received").write_text("kill after 4")
    armed = {"FAILPOINTS_DIR": str(failpoints)}
    seen: list[tuple[int, int]] = []

    def upload(transport: Transport) -> str:
        file = upload_in_parts(
            transport,
            path,
            purpose="corpus",
            parallel=1,
            part_bytes=1 << 20,
            on_progress=lambda *both: seen.append(both),
        )
        return file.sha256

    with running_api(tmp_path / "api", port=port, environment=armed) as api:
        transport = Transport(api.url, api_key=api.key, user_agent="test", pause=lambda _: None)
        with pytest.raises(UnreachableError):
            upload(transport)
        # It dies in the middle of the fifth part.
        psutil.wait_procs([api.process], timeout=30)
    assert len(list(failpoints.glob(f"*{FIRED_SUFFIX}"))) == 1
    assert len(seen) == 4
    seen.clear()

    with running_api(tmp_path / "api", port=port):
        sha256 = upload(transport)
    transport.close()

    num_parts = -(-path.stat().st_size // (1 << 20))
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(seen) == num_parts - 4, "what was there is not sent again"
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_a_download_continues_after_its_client_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    data = random.Random(1).randbytes(24 << 20)
    (folder / "model.safetensors").write_bytes(data)
    cuts = Cuts(after=(20 << 20, 20 << 20), limit=1000, silently=True)
    fetched: list[int] = []
    with running_api(tmp_path / "api") as api, cutting_proxy(api.port, cuts) as url:
        model = publish(api, folder)
        environment = {**os.environ, "FUSION_URL": url, "FUSION_API_KEY": api.key}
        command = [sys.executable, "-m", "app.cli", "download", model.model_id, str(tmp_path / "fused")]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        journal = tmp_path / "fused" / "model.safetensors.partial.json"
        while not (cuts.num_cut and journal.exists()):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()

        with FusionClient(api.url, api.key) as client:
            client.download_model(
                model.model_id, tmp_path / "fused", on_progress=lambda present, _: fetched.append(present)
            )

    assert (tmp_path / "fused" / "model.safetensors").read_bytes() == data
    assert len(list((tmp_path / "fused").iterdir())) == 2
    # What the journal knows of is not fetched again; it is written every eight mebibytes.
    assert fetched[1] >= 8 << 20
