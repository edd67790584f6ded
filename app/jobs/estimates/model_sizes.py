"""How many parameters the models of a spec have: counted, read from a folder, or told by a name."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Job, Model, Step
from app.jobs.estimates.figures import Basis, Figure
from app.jobs.estimates.past import PastJob
from fusion.spec import FusionSpec, ModelRef

_IN_NAME: Final = re.compile(r"(?<![0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_BYTES_OF_DTYPE: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_MAX_CONFIG_BYTES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """`vocabulary_size` is None where nothing tells it."""

    num_parameters: Figure
    vocabulary_size: int | None = None


def model_sizes(session: Session, spec: FusionSpec, past: list[PastJob]) -> dict[str, ModelSize]:
    """The size of every model of a spec by its name. Folders are read where this machine has them."""
    return {name: _size_of(session, ref, past) for name, _, ref in spec.model_refs()}


def _size_of(session: Session, ref: ModelRef, past: list[PastJob]) -> ModelSize:
    for job in past:
        found = job.size_of_model(ref)
        if found is not None:
            why = f"{job.job_id} counted the parameters of {ref.label}"
            return ModelSize(
                num_parameters=Figure.exactly(found.num_parameters, why=why),
                vocabulary_size=found.vocabulary_size,
            )
    if ref.path is not None:
        return _size_of_folder(Path(ref.path))
    if ref.hub is not None:
        return ModelSize(num_parameters=_told_by_name(ref.hub))
    return _size_of_registered(session, ref.model_id or "", past)


def _size_of_registered(session: Session, model_id: str, past: list[PastJob]) -> ModelSize:
    model = session.get(Model, model_id)
    if model is None:
        return ModelSize(num_parameters=Figure.unknown(f"{model_id} is gone"))
    if model.origin is not None:
        origin = {name: model.origin.get(name) for name in ("hub", "revision", "path")}
        return _size_of(session, ModelRef.model_validate(origin), past)
    query = (
        select(Step.figures)
        .join(Job, Job.id == Step.job_id)
        .where(Step.job_id == model.made_by_job_id, Step.stage == "publish")
    )
    figures = session.scalars(query).first() or {}
    if "num_parameters" not in figures:
        return ModelSize(num_parameters=Figure.unknown(f"the size of {model_id} was not written down"))
    why = f"{model.made_by_job_id} counted the parameters of {model_id}"
    return ModelSize(num_parameters=Figure.exactly(figures["num_parameters"], why=why))


def _size_of_folder(folder: Path) -> ModelSize:
    """From the bytes of the weights and the precision that the config names."""
    unknown = ModelSize(num_parameters=Figure.unknown(f"{folder} is not on the API's machine"))
    try:
        num_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        path = folder / "config.json"
        config = json.loads(path.read_text()) if path.stat().st_size <= _MAX_CONFIG_BYTES else None
    except (OSError, ValueError):
        return unknown
    if not isinstance(config, dict) or not num_bytes:
        return unknown
    dtype = config.get("dtype") or config.get("torch_dtype")
    width = _BYTES_OF_DTYPE.get(str(dtype).removeprefix("torch."))
    why = f"{num_bytes} bytes of weights in {folder.name}"
    vocabulary_size = config.get("vocab_size")
    return ModelSize(
        num_parameters=Figure.exactly(num_bytes / width, why=f"{why}, {dtype}", basis=Basis.MODELLED)
        if width is not None
        else Figure.within(
            num_bytes / 4,
            num_bytes / 4,
            num_bytes / 2,
            basis=Basis.DEFAULT,
            why=f"{why}, taken for float32: its config names no dtype",
        ),
        vocabulary_size=vocabulary_size if isinstance(vocabulary_size, int) else None,
    )


def _told_by_name(hub: str) -> Figure:
    """`org/model-7b` has about 7 billion."""
    found = _IN_NAME.search(hub.partition("/")[2].replace("_", "-"))
    if found is None:
        return Figure.unknown(
            f"nothing here tells the size of {hub}: no job has read it, and its name does not"
        )
    number = float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)
    why = f"taken from the name of {hub}"
    return Figure.within(0.8 * number, number, 1.25 * number, basis=Basis.DEFAULT, why=why)
