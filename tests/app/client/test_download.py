"""A download is complete and verified, or it says why not; cut connections only cost time."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import app.client.download
from app.client.client import FusionClient
from app.client.download import download_artifact
from app.client.errors import DownloadError, UnreachableError
from app.client.ranges import PartialFile
from app.client.transport import Transport
from tests.app.client.file_server import ARTIFACT_ID, Shelf, serving
from tests.support.services import free_port

BIG = bytes(range(256)) * 400
RANGE_BYTES = 10_000


def shelf_of(**files: bytes) -> Shelf:
    return Shelf(files={name.replace("_", "/"): data for name, data in files.items()})


@contextmanager
def transport_to(url: str) -> Iterator[Transport]:
    transport = Transport(url, api_key=None, user_agent="test", pause=lambda _: None)
    try:
        yield transport
    finally:
        transport.close()


def download(shelf: Shelf, into: Path, *, parallel: int = 4) -> Path:
    with serving(shelf) as url, transport_to(url) as transport, FusionClient(url) as client:
        artifact = client.get_artifact(ARTIFACT_ID)
        return download_artifact(transport, artifact, into, parallel=parallel, range_bytes=RANGE_BYTES)


def found(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_files_arrive_in_parallel_ranges_and_nothing_else_is_left(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG, sub_small=b"text", empty=b"")

    download(shelf, tmp_path)

    assert found(tmp_path) == shelf.files
    assert len(shelf.ranges_asked) == len(BIG) // RANGE_BYTES + 2


def test_cut_connections_continue_at_the_byte_they_stopped_at(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG)
    shelf.num_cuts = 5

    download(shelf, tmp_path, parallel=1)

    assert found(tmp_path) == shelf.files
    assert ("big", f"bytes={shelf.cut_after}-{RANGE_BYTES - 1}") in shelf.ranges_asked


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    shelf = shelf_of(small=b"text")
    shelf.num_refusals = 3

    assert found(download(shelf, tmp_path)) == shelf.files


def test_a_server_that_never_answers_ends_the_download_and_keeps_what_is_there(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG)
    with serving(shelf) as url, FusionClient(url) as client:
        artifact = client.get_artifact(ARTIFACT_ID)

    with transport_to(url) as transport, pytest.raises(UnreachableError):
        download_artifact(transport, artifact, tmp_path, parallel=2, range_bytes=RANGE_BYTES)

    assert (tmp_path / "big.partial").exists()


def test_a_second_call_continues_from_the_partial_file(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG)
    digest = hashlib.sha256(BIG).hexdigest()
    with PartialFile(tmp_path / "big", size=len(BIG), sha256=digest, range_bytes=RANGE_BYTES) as partial:
        for part in partial.ranges[:-1]:
            partial.write(part, BIG[part.start : part.end])

    download(shelf, tmp_path)

    assert found(tmp_path) == shelf.files
    assert shelf.ranges_asked == [("big", f"bytes=100000-{len(BIG) - 1}")]


def test_wrong_bytes_of_an_earlier_call_are_fetched_again(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG)
    digest = hashlib.sha256(BIG).hexdigest()
    with PartialFile(tmp_path / "big", size=len(BIG), sha256=digest, range_bytes=RANGE_BYTES) as partial:
        partial.write(partial.ranges[0], b"x" * RANGE_BYTES)

    download(shelf, tmp_path)

    assert found(tmp_path) == shelf.files


def test_complete_files_are_not_fetched_again(tmp_path: Path) -> None:
    shelf = shelf_of(small=b"text")
    download(shelf, tmp_path)
    shelf.ranges_asked.clear()

    download(shelf, tmp_path)

    assert shelf.ranges_asked == []


def test_bytes_without_the_promised_digest_are_refused(tmp_path: Path) -> None:
    shelf = shelf_of(small=b"text")
    shelf.lie_about["small"] = "0" * 64

    with pytest.raises(DownloadError, match="promised sha256"):
        download(shelf, tmp_path)

    assert found(tmp_path) == {}


def test_a_file_that_changed_on_the_server_is_not_stitched_together(tmp_path: Path) -> None:
    shelf = shelf_of(big=BIG)
    with serving(shelf) as url, transport_to(url) as transport, FusionClient(url) as client:
        artifact = client.get_artifact(ARTIFACT_ID)
        shelf.files["big"] = BIG[::-1]
        with pytest.raises(DownloadError, match="changed on the server"):
            download_artifact(transport, artifact, tmp_path, parallel=2, range_bytes=RANGE_BYTES)


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", "a\\b"])
def test_a_server_cannot_write_outside_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadError, match="outside the folder"):
        download(Shelf(files={path: b"text"}), tmp_path / "into")


def test_a_manifest_that_disagrees_with_the_service_is_refused(tmp_path: Path) -> None:
    manifest = {"files": [{"path": "small", "size": 4, "sha256": "0" * 64}]}
    shelf = Shelf(files={"small": b"text", "manifest.json": json.dumps(manifest).encode()})

    with pytest.raises(DownloadError, match="disagree about small"):
        download(shelf, tmp_path)


def test_too_little_room_is_said_before_the_first_byte(tmp_path: Path) -> None:
    shelf = shelf_of(small=b"text")
    with serving(shelf) as url, transport_to(url) as transport, FusionClient(url) as client:
        artifact = client.get_artifact(ARTIFACT_ID)
        (file,) = artifact.files
        huge = artifact.model_copy(update={"files": [file.model_copy(update={"size": 1 << 60})]})
        with pytest.raises(DownloadError, match="room"):
            download_artifact(transport, huge, tmp_path, parallel=1)

    assert shelf.ranges_asked == []


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """A shelf whose files come from a store, by links."""
    monkeypatch.setattr(app.client.download, "MIN_LINKED_BYTES", 1)
    shelf = shelf_of(big=BIG, small=b"text", empty=b"")
    with serving(shelf) as store:
        shelf.linked_from = store
        yield shelf


def test_bytes_come_from_the_store_where_it_signs_links(linked: Shelf, tmp_path: Path) -> None:
    download(linked, tmp_path)

    assert found(tmp_path) == linked.files
    assert set(linked.fetched_from_store) == {"big", "small"}
    assert linked.num_links == 2, "one link per file"
    assert linked.ranges_asked == []


def test_a_link_that_expired_is_replaced(linked: Shelf, tmp_path: Path) -> None:
    linked.num_dead_links = 3

    download(linked, tmp_path, parallel=1)

    assert found(tmp_path) == linked.files
    assert linked.num_links == 5
    assert linked.ranges_asked == []


def test_cuts_of_the_store_continue_too(linked: Shelf, tmp_path: Path) -> None:
    linked.num_cuts = 5

    assert found(download(linked, tmp_path, parallel=1)) == linked.files


def test_a_store_out_of_reach_is_done_without(linked: Shelf, tmp_path: Path) -> None:
    linked.linked_from = f"http://127.0.0.1:{free_port()}"

    assert found(download(linked, tmp_path)) == linked.files
    assert len(linked.ranges_asked) >= 2


def test_the_store_may_not_make_up_bytes(linked: Shelf, tmp_path: Path) -> None:
    linked.lie_about["small"] = "0" * 64

    with pytest.raises(DownloadError, match="promised sha256"):
        download(linked, tmp_path)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    shelf = shelf_of(big=BIG, small=b"text")
    with serving(shelf) as url, transport_to(url) as transport, FusionClient(url) as client:
        artifact = client.get_artifact(ARTIFACT_ID)
        download_artifact(
            transport, artifact, tmp_path, parallel=2, on_progress=lambda *both: seen.append(both)
        )

    assert seen[-1] == (len(BIG) + 4, len(BIG) + 4)
