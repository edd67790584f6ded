"""`/metrics`: the whole service in numbers, for Prometheus."""

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.accounts.dependencies import CurrentPrincipal
from app.db.dependencies import service_engine_of
from app.errors import Forbidden, Unauthorized, problem_responses
from app.operations.fleet_endpoints import WholeService
from app.operations.metrics import exposition
from app.operations.readiness import find_obstacles, live_workers
from app.routing import Router
from app.settings import Settings

router = Router(tags=["Operations"], responses=problem_responses(Unauthorized, Forbidden))


@router.get("/metrics", response_class=PlainTextResponse)
def get_metrics(request: Request, principal: CurrentPrincipal, session: WholeService) -> Response:
    """Jobs, steps, workers, attempts and what waits, in Prometheus' text format. For operators' keys: it is
    about every project, though it names none."""
    settings: Settings = request.app.state.settings
    obstacles = find_obstacles(
        service_engine_of(request), lease_seconds=settings.lease_seconds, stuck_seconds=settings.stuck_seconds
    )
    live = live_workers(session, lease_seconds=settings.lease_seconds)
    return Response(exposition(session, obstacles=obstacles, live=live), media_type=CONTENT_TYPE_LATEST)
