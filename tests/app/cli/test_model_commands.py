"""`fusion models`."""

from collections.abc import Callable

from tests.app.cli.conftest import Ran, Service

MODEL = {
    "id": "model-1",
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "proj-1",
    "name": "wise",
    "kind": "fused",
    "job_id": "job-1",
    "artifact_id": "art-1",
    "checkpoint_id": None,
    "hub_id": "proj-1/model-1",
    "ref": None,
}


def test_models_are_listed_with_their_repositories(talking: Callable[..., Ran], service: Service) -> None:
    service.gives_list("GET /v1/models", MODEL)

    ran = talking("models", "--kind", "fused", "--job", "job-1")

    line = "model-1\twise\tfused\tjob-1\t2023-11-14 22:13:20\tproj-1/model-1"
    assert line in ran.out.splitlines()
    assert talking("models", "--json").json == [MODEL]
