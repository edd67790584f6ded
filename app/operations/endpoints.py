"""Health, capabilities and the schema of the spec."""

from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import ReadSession, engine_of
from app.errors import Forbidden, Unauthorized, problem_responses
from app.operations.readiness import find_obstacles, live_workers
from app.settings import Settings
from fusion.plan import STAGES, Stage
from fusion.spec import PRESETS, spec_schema

router = APIRouter(tags=["Operations"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    ok: bool
    detail: str | None
    """What is wrong and what mends it."""


class Readiness(BaseModel):
    """Whether the service can do its work."""

    ready: bool
    checks: dict[str, Check]


class WorkerCount(BaseModel):
    """Live workers that take steps of each kind."""

    cpu: int
    gpu: int


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
    workers: WorkerCount


@router.get("/livez")
def live() -> Alive:
    """Green while the process answers; asks nothing else."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something is in the way."}})
def ready(request: Request) -> JSONResponse:
    """Green when the database answers, its tables are current, and work moves.

    Work does not move when a step has been ready for longer than the setting `stuck_seconds` while no worker
    that could take it is alive, or while one that could is idle. A queue behind busy workers is normal.
    """
    settings: Settings = request.app.state.settings
    obstacles = find_obstacles(
        engine_of(request), lease_seconds=settings.lease_seconds, stuck_seconds=settings.stuck_seconds
    )
    readiness = Readiness(
        ready=not any(obstacles.values()),
        checks={name: Check(ok=detail is None, detail=detail) for name, detail in obstacles.items()},
    )
    return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)


@router.get("/v1/schemas/fusion-spec", response_model=dict[str, Any])
def get_spec_schema() -> dict[str, Any]:
    """JSON Schema of the spec, for editors, forms and clients."""
    return spec_schema()


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
        workers=WorkerCount(
            cpu=sum("cpu" in worker.resources for worker in workers),
            gpu=sum("gpu" in worker.resources for worker in workers),
        ),
    )
