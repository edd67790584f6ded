"""The worker's cache of models that were downloaded with a secret: a folder for each project that has one."""

from app.jobs.service import ClaimedStep
from app.logs import get_logger
from app.settings import Settings
from fusion.io.cache_pruning import fitting_bytes
from fusion.io.hub_cache import num_bytes_of, prune

log = get_logger(__name__)


def private_hub_cache_of(settings: Settings, step: ClaimedStep) -> str:
    """Where what is downloaded with a secret is kept: for jobs of the same project."""
    folder = settings.hub_cache_dir / step.project_id
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return str(folder)


def prune_hub_cache(settings: Settings) -> None:
    """Remove what no stage uses and was not used for long, over all projects. Never fails a step."""
    root = settings.hub_cache_dir
    if not root.is_dir():
        return
    try:
        caches = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
        limit = fitting_bytes(root, num_used=num_bytes_of(caches), max_bytes=settings.max_hub_cache_bytes)
        num_bytes = prune(caches, max_bytes=limit, max_unused_seconds=settings.hub_cache_kept_seconds)
    except OSError as error:
        log.warning("hub_cache_not_pruned", error=str(error))
        return
    if num_bytes:
        log.info("hub_cache_pruned", num_bytes=num_bytes)
