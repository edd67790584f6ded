"""What a stage is given to read: folders, by name."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class StageInputs:
    """Everything a stage reads besides the spec.

    `subject` is the model (`target` or a source's name) or role (`fused`, `control`) the step works on.
    `steps` maps the name of a finished step to its output folder.
    `files` maps a file id of the spec to the file, `models` a model id to its checkpoint folder.
    `capture_cache` is where `extract` finds and leaves captured windows; None for none.
    """

    subject: str | None = None
    steps: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    capture_cache: Path | None = None
