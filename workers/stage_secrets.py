"""Which secrets a stage may use, and their values."""

from sqlalchemy import or_, select

from app.db.models import Secret
from app.db.session import read_only
from app.jobs.service import ClaimedStep
from app.sealing import load_seals
from app.secrets.service import open_secret
from fusion.errors import SpecInvalid
from fusion.spec import FusionSpec
from workers.worker import Worker


def open_secrets(worker: Worker, step: ClaimedStep, spec: FusionSpec) -> dict[str, str]:
    """Values of the secrets that a stage needs, by the name or id that the spec gives.

    Raises:
        SpecInvalid: one of them is gone.
        InfrastructureError: this worker has not the key that it was sealed with.
    """
    pointers = {
        ref.secret: pointer for name, pointer, ref in spec.model_refs() if ref.secret and _reads(step, name)
    }
    if not pointers:
        return {}
    named = or_(Secret.name.in_(pointers), Secret.id.in_(pointers))
    with read_only(worker.engine) as session:
        rows = list(session.scalars(select(Secret).where(Secret.project_id == step.project_id, named)))
    found = {text: row for row in rows for text in (row.id, row.name)}
    seals = load_seals(worker.settings)
    for name, pointer in pointers.items():
        if name not in found:
            raise SpecInvalid(
                f"secret {name!r} was deleted",
                code="secret_not_found",
                hint="store one of that name again (POST /v1/secrets), then retry the job",
                pointer=f"{pointer}/secret",
            )
    return {name: open_secret(seals, found[name]) for name in pointers}


def _reads(step: ClaimedStep, model: str) -> bool:
    """Whether the stage loads a model of the spec; `publish` runs without any secret."""
    match step.stage:
        case "extract":
            return model == step.subject
        case "train":
            return model == "target"
        case "publish":
            return False
        case _:
            return True
