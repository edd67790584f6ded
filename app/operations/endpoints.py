"""What this service can do, for callers with any key. What needs none is in `open_endpoints`."""

from importlib.metadata import version
from typing import Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession
from app.errors import Forbidden, Unauthorized, problem_responses
from app.operations.readiness import live_workers
from app.publications.places import Target
from app.routing import Router
from app.settings import Settings
from fusion.plan import STAGES, Stage
from fusion.spec import PRESETS

router = Router(tags=["Operations"])


class WorkerCount(BaseModel):
    """Live workers that take steps of each kind."""

    cpu: int
    gpu: int


class Publishing(BaseModel):
    """Where models can be published."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    targets: list[Target]
    hub: str
    """The hub of `hf`."""
    origins: list[str]
    """MLflow servers and endpoints of S3; AWS needs no entry."""


class Capabilities(BaseModel):
    """What this service can do, for clients and forms."""

    object: Literal["capabilities"] = "capabilities"
    version: str
    api_versions: list[str]
    stages: list[Stage]
    presets: list[str]
    allowed_roots: list[str]
    """Folders from which a spec may read models and corpora."""
    max_request_bytes: int
    max_upload_bytes: int
    publishing: Publishing
    workers: WorkerCount


@router.get("/v1/capabilities", responses=problem_responses(Unauthorized, Forbidden))
def get_capabilities(request: Request, principal: CurrentPrincipal, session: ReadSession) -> Capabilities:
    """What this service can do."""
    settings: Settings = request.app.state.settings
    workers = live_workers(session, lease_seconds=settings.lease_seconds)
    return Capabilities(
        version=version("fusion-service"),
        api_versions=["fusion/v1"],
        stages=list(STAGES),
        presets=sorted(PRESETS),
        allowed_roots=[str(root) for root in settings.allowed_roots],
        max_request_bytes=settings.max_request_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        publishing=Publishing(
            targets=list(settings.publish_targets),
            hub=settings.publish_hub,
            origins=list(settings.publish_origins),
        ),
        workers=WorkerCount(
            cpu=sum("cpu" in worker.resources for worker in workers),
            gpu=sum("gpu" in worker.resources for worker in workers),
        ),
    )
