"""The API process: `uvicorn app.main:create_app --factory`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from app.accounts import key_endpoints, project_endpoints
from app.accounts.dependencies import require_principal
from app.accounts.last_use import LastUses
from app.accounts.secret_files import load_pepper
from app.api_document import finish_document
from app.artifacts import download_endpoints
from app.artifacts import endpoints as artifact_endpoints
from app.artifacts.damage import DamagedBlobs
from app.audit import endpoints as audit_endpoints
from app.audit.middleware import AuditMiddleware
from app.catalog import file_endpoints, model_endpoints, upload_endpoints
from app.checkpoints import endpoints as checkpoint_endpoints
from app.db.session import create_engine
from app.db.time_limits import TimeLimits, with_time_limits
from app.error_handlers import install_error_handlers
from app.errors import InternalServerError, TooManyRequests, Unavailable, problem_responses
from app.following import curve_endpoints, event_endpoints, log_endpoints, stream_endpoints
from app.following import job_endpoints as followed_job_endpoints
from app.following.feed import Feed
from app.following.stopping import told_to_stop
from app.hub import endpoints as hub_endpoints
from app.jobs import action_endpoints as job_action_endpoints
from app.jobs import document_endpoints as job_document_endpoints
from app.jobs import endpoints as job_endpoints
from app.jobs import estimate_endpoints as job_estimate_endpoints
from app.jobs import history_endpoints as job_history_endpoints
from app.jobs import list_endpoints as job_list_endpoints
from app.known_parameters import require_known_parameters
from app.logs import configure_logs
from app.openai_face import endpoints as openai_face_endpoints
from app.operations import endpoints as operation_endpoints
from app.operations import fleet_endpoints, metrics_endpoint, open_endpoints, usage_endpoints
from app.operations.housekeeping import Housekeeper, all_chores
from app.overload import OverloadMiddleware, WaitingLine
from app.publications import endpoints as publication_endpoints
from app.rate_limits.limiter import Limiter
from app.recipes import endpoints as recipe_endpoints
from app.request_context import RequestContextMiddleware
from app.sealing import load_seals
from app.secrets import endpoints as secret_endpoints
from app.settings import Settings, load_settings
from app.storage.opening import open_store
from app.webhooks import delivery_endpoints as webhook_delivery_endpoints
from app.webhooks import endpoints as webhook_endpoints

_GUARDED_ROUTERS = (
    # Before the routes of one job: `counts` and `estimate` are no ids.
    job_list_endpoints.router,
    job_estimate_endpoints.router,
    job_endpoints.router,
    job_history_endpoints.router,
    job_document_endpoints.router,
    followed_job_endpoints.router,
    event_endpoints.router,
    curve_endpoints.router,
    log_endpoints.router,
    stream_endpoints.router,
    job_action_endpoints.router,
    checkpoint_endpoints.router,
    publication_endpoints.router,
    openai_face_endpoints.router,
    recipe_endpoints.router,
    file_endpoints.router,
    upload_endpoints.router,
    model_endpoints.router,
    artifact_endpoints.router,
    download_endpoints.router,
    secret_endpoints.router,
    key_endpoints.router,
    project_endpoints.router,
    webhook_endpoints.router,
    webhook_delivery_endpoints.router,
    audit_endpoints.router,
    usage_endpoints.router,
    operation_endpoints.router,
    fleet_endpoints.router,
    metrics_endpoint.router,
    # Last: its paths begin with a name.
    hub_endpoints.router,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The API over the database and the store that the settings name; its tables must exist."""
    settings = settings or load_settings()
    configure_logs(settings.log_level)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    app = FastAPI(
        title="fusion",
        summary="Fuse what several language models know into one.",
        version=version("fusion-service"),
        lifespan=_lifespan,
        middleware=[
            Middleware(RequestContextMiddleware),
            Middleware(OverloadMiddleware, max_wait_seconds=settings.max_wait_seconds),
            Middleware(AuditMiddleware),
            # Not FastAPI's argument: that limiter stands outside of ours, and its refusal is not a problem.
            Middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_request_bytes),
        ],
        responses=problem_responses(InternalServerError, Unavailable),
        # `/docs` is ours: FastAPI's pages load their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings = settings
    app.state.engine = with_time_limits(
        create_engine(settings.database_url),
        TimeLimits(
            statement_seconds=settings.statement_seconds, idle_seconds=settings.idle_transaction_seconds
        ),
    )
    app.state.feed = Feed(
        app.state.engine,
        poll_seconds=settings.follow_poll_seconds,
        max_followers=settings.max_followers,
    )
    app.state.waiting_line = WaitingLine()
    app.state.store = open_store(settings.storage_url)
    app.state.damaged_blobs = DamagedBlobs()
    app.state.key_pepper = load_pepper(
        settings.key_pepper_file,
        given=settings.key_pepper.get_secret_value() if settings.key_pepper is not None else None,
    )
    app.state.last_uses = LastUses()
    app.state.seals = load_seals(settings, create=True)
    app.state.limiter = Limiter(settings.rate_limits, redis_url=settings.counting_redis)
    install_error_handlers(app)
    app.include_router(open_endpoints.router)
    app.include_router(download_endpoints.open_router)
    for router in _GUARDED_ROUTERS:
        app.include_router(
            router,
            # Before anything else of a route: sessions and engine are bound to the project of its caller.
            dependencies=[Depends(require_principal), Depends(require_known_parameters)],
            responses=problem_responses(TooManyRequests),
        )
    # FastAPI's way to extend the document: https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = _finished(app.openapi)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep house while the server runs, and an eye on how long requests wait."""
    settings: Settings = app.state.settings
    threads = current_default_thread_limiter()
    threads.total_tokens = settings.request_threads
    # Without the time limits of requests: some of its transactions look at all there is.
    engine = create_engine(settings.database_url)
    chores = all_chores(engine, app.state.store, settings) if settings.housekeeping else []
    housekeeper = Housekeeper(chores)
    housekeeper.start()
    feed: Feed = app.state.feed
    watch = asyncio.create_task(app.state.waiting_line.watch(threads))
    try:
        with told_to_stop(feed.close):
            yield
    finally:
        feed.dispose()
        watch.cancel()
        await run_in_threadpool(housekeeper.stop)
        engine.dispose()
        app.state.engine.dispose()
        app.state.limiter.close()


def _finished(make_document: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The document with what is said of every route alike; made once, like FastAPI's own."""
    finished: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not finished:
            finished.append(finish_document(make_document()))
        return finished[0]

    return openapi
