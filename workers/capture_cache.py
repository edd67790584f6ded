"""The worker's capture cache: a folder per project, so that no tenant profits from another's text.

Whether a capture is there shows in how long a step takes; within a project that is no secret.
"""

from app.jobs.service import ClaimedStep
from app.logs import get_logger
from fusion.io.cache_pruning import fitting_bytes, plan_pruning, prune
from fusion.io.capture_packs import list_packs
from workers.worker import Worker

log = get_logger(__name__)


def capture_cache_of(worker: Worker, step: ClaimedStep) -> str | None:
    """Folder that the step's project shares; None where the step needs none or the operator wants none."""
    settings = worker.settings
    if step.stage != "extract" or settings.max_capture_cache_bytes == 0:
        return None
    return str(settings.capture_cache_dir / step.project_id)


def keep_within_limit(worker: Worker) -> None:
    """Remove what was not used for longest, over all projects. Never fails a step."""
    root = worker.settings.capture_cache_dir
    if not root.is_dir():
        return
    try:
        caches = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
        num_used = sum(pack.num_bytes for cache in caches for pack in list_packs(cache))
        limit = fitting_bytes(root, num_used=num_used, max_bytes=worker.settings.max_capture_cache_bytes)
        pruning = plan_pruning(caches, max_bytes=limit)
        prune(pruning)
    except OSError as error:
        log.warning("capture_cache_not_pruned", error=str(error))
        return
    if pruning.packs:
        log.info("capture_cache_pruned", num_packs=len(pruning.packs), num_bytes=pruning.num_bytes)
