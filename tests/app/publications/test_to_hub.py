"""A model is committed to a hub with the hub's own library, once, however often that is tried."""

import pytest

from app.publications.publisher import RETRY_SECONDS
from tests.app.publications.conftest import FILES, REPO, TOKEN, Publishing
from tests.support.writable_hub import Repo, WritableHub


def committed(hub: WritableHub, branch: str = "main") -> dict[str, bytes]:
    """Files of the newest commit, without what a hub begins with."""
    return {path: data for path, data in hub.repos["org/wise"].head(branch).items() if path[0] != "."}


def without_manifest(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in files.items() if path != "manifest.json"}


@pytest.mark.parametrize("part_bytes", [None, 1_000_000])
def test_a_model_is_one_commit_of_a_new_private_repository(
    publishing: Publishing, hub: WritableHub, part_bytes: int | None
) -> None:
    hub.part_bytes = part_bytes

    done = publishing.publish(**REPO)

    assert (done["status"], done["error"]) == ("succeeded", None)
    assert without_manifest(committed(hub)) == FILES
    repo = hub.repos["org/wise"]
    assert (repo.private, len(repo.branches["main"])) == (True, 2)
    assert done["revision"] == repo.sha("main")
    assert done["url"] == f"{hub.url}/org/wise/tree/{done['revision']}"
    assert done["num_bytes_sent"] == done["num_bytes"] == sum(map(len, committed(hub).values()))


def test_what_is_there_is_not_sent_again(publishing: Publishing, hub: WritableHub) -> None:
    first = publishing.publish(**REPO)
    num_uploads = len(hub.uploads())

    again = publishing.publish(**REPO)

    assert again["id"] != first["id"]
    assert (again["status"], again["revision"]) == ("succeeded", first["revision"])
    assert len(hub.repos["org/wise"].branches["main"]) == 2
    assert len(hub.uploads()) == num_uploads


def test_another_model_takes_the_place_of_the_first_and_leaves_no_weights_of_it(
    publishing: Publishing, hub: WritableHub
) -> None:
    publishing.publish(**REPO)
    hub.repos["org/wise"].head("main")["NOTES.md"] = b"of a person"
    hub.repos["org/wise"].head("main")["lora/adapter_model.safetensors"] = b"of a person, too"
    smaller = {"config.json": b"{}", "model.safetensors": b"weights"}

    done = publishing.publish(publishing.another_model("small", smaller).model_id, **REPO)

    assert done["status"] == "succeeded"
    assert without_manifest(committed(hub)) == {
        **smaller,
        "README.md": FILES["README.md"],
        "NOTES.md": b"of a person",
        "lora/adapter_model.safetensors": b"of a person, too",
    }
    assert len(hub.repos["org/wise"].branches["main"]) == 3


def test_a_branch_is_made_where_it_is_missing(publishing: Publishing, hub: WritableHub) -> None:
    done = publishing.publish(**REPO, branch="step-800", private=False, message="After 800 steps")

    assert done["status"] == "succeeded"
    assert without_manifest(committed(hub, "step-800")) == FILES
    assert committed(hub) == {}
    assert not hub.repos["org/wise"].private


def test_a_repository_that_leaves_files_out_is_refused(publishing: Publishing, hub: WritableHub) -> None:
    hub.repos["org/wise"] = Repo(private=True)
    hub.repos["org/wise"].head("main")[".gitignore"] = b"*.safetensors"

    failed = publishing.publish(**REPO)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_refused")
    assert ".gitignore" in failed["error"]["message"]
    assert committed(hub) == {}


def test_a_token_that_the_hub_does_not_let_in_ends_the_publication(
    publishing: Publishing, hub: WritableHub
) -> None:
    hub.token = "another"

    failed = publishing.publish(**REPO)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "destination_denied")
    assert "[secret]" in failed["error"]["message"]
    assert TOKEN not in str(failed)
    assert "POST /v1/secrets" in failed["error"]["hint"]
    assert [event["type"] for event in publishing.events()] == ["model_not_published"]
    assert publishing.keep_house() == 0


@pytest.mark.parametrize("status", [500, 429])
def test_a_hub_in_trouble_is_asked_again_later(publishing: Publishing, hub: WritableHub, status: int) -> None:
    hub.failures = [status] * 3
    publication_id = publishing.asked(**REPO)
    publishing.keep_house()

    waiting = publishing.show(publication_id)
    at_once = publishing.keep_house()
    hub.failures = []
    publishing.make_due()
    publishing.keep_house()
    done = publishing.show(publication_id)

    assert (waiting["status"], waiting["num_failures"]) == ("queued", 1)
    assert waiting["error"]["code"] == "destination_unreachable"
    assert waiting["next_try_at"] > waiting["created_at"] + 3000
    assert at_once == 0
    assert (done["status"], done["error"], done["next_try_at"]) == ("succeeded", None, None)
    assert without_manifest(committed(hub)) == FILES


def test_a_hub_that_stays_away_is_given_up(publishing: Publishing) -> None:
    publication_id = publishing.asked(**REPO)
    for _ in RETRY_SECONDS:
        publishing.keep_house(pauses=[0.0] * len(RETRY_SECONDS))
        publishing.make_due()

    failed = publishing.show(publication_id)

    assert (failed["status"], failed["num_failures"]) == ("failed", len(RETRY_SECONDS))
    assert failed["error"]["code"] == "destination_unreachable"


def test_a_commit_that_came_in_between_is_not_lost(publishing: Publishing, hub: WritableHub) -> None:
    def somebody_commits() -> None:
        hub.before_commit = lambda: None
        repo = hub.repos["org/wise"]
        repo.branches["main"].append({**repo.head("main"), "NOTES.md": b"of a person"})

    hub.before_commit = somebody_commits
    publication_id = publishing.asked(**REPO)
    publishing.keep_house()
    met = publishing.show(publication_id)
    publishing.make_due()
    publishing.keep_house()

    assert (met["status"], met["num_failures"]) == ("queued", 1)
    assert publishing.show(publication_id)["status"] == "succeeded"
    assert committed(hub)["NOTES.md"] == b"of a person"


def test_a_repository_that_is_there_may_not_be_ones_own_to_make(
    publishing: Publishing, hub: WritableHub
) -> None:
    hub.repos["org/wise"] = Repo(private=False)

    done = publishing.publish(**REPO)

    assert done["status"] == "succeeded"
    assert not hub.repos["org/wise"].private


@pytest.mark.parametrize("part_bytes", [None, 1_000_000])
@pytest.mark.parametrize(
    "path", ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
)
def test_damaged_bytes_are_not_published(
    publishing: Publishing, hub: WritableHub, path: str, part_bytes: int | None
) -> None:
    hub.part_bytes = part_bytes
    publishing.damage(FILES[path])

    failed = publishing.publish(**REPO)

    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_damaged")
    assert path in failed["error"]["message"]
    assert committed(hub) == {}
