"""A worker process: who it is, what it may run, and what it needs for it."""

import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from app.db.session import create_engine
from app.jobs.claims import Resource
from app.operations.housekeeping import Chore, Housekeeper, mending_chores
from app.operations.workspaces import sweep_workspaces
from app.settings import Settings
from app.storage.opening import open_store
from app.storage.store import ObjectStore
from workers.child_process import default_command
from workers.drain import Drain
from workers.hub_cache import prune_hub_cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """Everything `step_runner` needs. `drain` is set when the process shall end and give its step back."""

    id: str
    resources: tuple[Resource, ...]
    settings: Settings
    engine: Engine
    store: ObjectStore
    stage_command: tuple[str, ...]
    drain: Drain = field(default_factory=Drain)

    @property
    def workspaces(self) -> Path:
        """On the same disk as a local store, so that files are linked and not copied."""
        return self.settings.workspaces_dir


def create_worker(
    settings: Settings, *, resources: tuple[Resource, ...], stage_command: tuple[str, ...] | None = None
) -> Worker:
    """A worker for this process; what dead workers of this machine left behind is given back first."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    worker = Worker(
        id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        resources=resources,
        settings=settings,
        engine=create_engine(settings.database_url),
        store=open_store(settings.storage_url),
        stage_command=stage_command or tuple(default_command()),
    )
    sweep_workspaces(worker.engine, worker.workspaces)
    return worker


def create_housekeeper(worker: Worker) -> Housekeeper:
    """Threads that ring the doorbell, mend what crashes left, and sweep up on this machine."""
    settings = worker.settings
    sweep = Chore(
        name="workspaces",
        every_seconds=settings.reconcile_seconds,
        run=lambda: sweep_workspaces(worker.engine, worker.workspaces),
    )
    prune = Chore(name="hub_cache", every_seconds=settings.gc_seconds, run=lambda: prune_hub_cache(settings))
    mend = mending_chores(worker.engine, settings) if settings.housekeeping else []
    return Housekeeper([*mend, sweep, prune])
