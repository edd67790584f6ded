"""What answers without a key: health, and the schema of the spec."""

from typing import Any, Literal

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from app.api_page import CONTENT_SECURITY_POLICY, page_of
from app.db.dependencies import service_engine_of
from app.operations.readiness import find_obstacles
from app.routing import Router
from app.settings import Settings
from fusion.spec import spec_schema

router = Router(tags=["Operations"])


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


@router.get("/livez")
async def live() -> Alive:
    """Green while the process answers; asks nothing else, and waits for no thread."""
    return Alive()


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Something is in the way."}},
)
def ready(request: Request) -> JSONResponse:
    """Green when the database answers, its tables are current, and work moves.

    Work does not move when a step has been ready for longer than the setting `stuck_seconds` while no worker
    that could take it is alive, or while one that could is idle. A queue behind busy workers is normal.
    """
    settings: Settings = request.app.state.settings
    obstacles = find_obstacles(
        service_engine_of(request), lease_seconds=settings.lease_seconds, stuck_seconds=settings.stuck_seconds
    )
    readiness = Readiness(
        ready=not any(obstacles.values()),
        checks={name: Check(ok=detail is None, detail=detail) for name, detail in obstacles.items()},
    )
    return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)


@router.get("/docs", include_in_schema=False)
def show_documentation(request: Request) -> HTMLResponse:
    """The description of this API, to read."""
    policy = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
    return HTMLResponse(page_of(request.app.openapi()), headers=policy)


@router.get("/v1/schemas/fusion-spec", response_model=dict[str, Any])
def get_spec_schema() -> dict[str, Any]:
    """JSON Schema of the spec, for editors, forms and clients."""
    return spec_schema()
