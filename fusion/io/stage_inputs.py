"""What a stage is given to read: folders, by name."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class StageInputs:
    """Everything a stage reads besides the spec.

    `subject` is the model (`target` or a source's name) or role (`fused`, `control`) the step works on.
    `steps` maps the name of a finished step to its output folder.
    `num_batch_halvings` says how often to halve the batches that are built for memory, because an earlier
    attempt ran out of it.
    `files` maps a file id of the spec to the file, `models` a model id to its checkpoint folder.
    `capture_cache` is where `extract` finds and leaves captured windows; None for none.
    `secrets` maps the name of a secret of the spec to its value. What is downloaded with one is kept in
    `private_hub_cache`, apart from what everybody on the machine may read.
    """

    subject: str | None = None
    steps: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    capture_cache: Path | None = None
    num_batch_halvings: int = 0
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    private_hub_cache: Path | None = None

    def within_memory(self, max_tokens: int) -> int:
        """A token budget of a batch, halved as often as asked for."""
        return max(1, max_tokens >> self.num_batch_halvings)
