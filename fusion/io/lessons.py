"""Lessons on disk: what `align` writes and `train` reads, one shard at a time.

A lesson is a window as the target reads it, with a blended distribution at every row a source speaks for.

Letters: `W` windows, `N` tokens of the shard, `E` kept entries of all rows together.
"""

from dataclasses import dataclass
from pathlib import Path

from fusion.io.atomic import atomic_folder
from fusion.io.manifest import read_manifest, write_manifest
from fusion.io.tensors import Array, read_arrays, write_arrays

LESSONS_KIND = "lessons"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """Blended rows of one shard, sparse, in linear space.

    window_starts: int64 [W + 1]; tokens of window w are `window_starts[w]:window_starts[w + 1]`. A window
        that is lossy for the target has none.
    token_ids: int32 [N]; what the target reads: start token, text, and EOS where the document ends.
    row_starts: int64 [N + 1]; entries of row i are `row_starts[i]:row_starts[i + 1]`; none where masked.
    entry_ids: int32 [E]; target ids, distinct within a row.
    entry_weights: float16 [E]; probabilities; with the row's tail they add to 1 (tail 0 when renormalised).
    tails: float16 [N]; mass outside the entries.
    speakers: int8 [N]; index into `spec.speaker_names` of the source that speaks, -1 nobody (masked or
        one-hot), -2 a mixture.
    rivals: int8 [N]; the same for the source whose row is due here, whether it has one or not: in a window
        it is chosen for, it is measured on all of the text.
    rival_nats: float16 [N]; what the rival pays for the next token at its mean rate in the window; 0 where
        there is no rival.
    """

    window_starts: Array
    token_ids: Array
    row_starts: Array
    entry_ids: Array
    entry_weights: Array
    tails: Array
    speakers: Array
    rivals: Array
    rival_nats: Array

    @property
    def num_windows(self) -> int:
        return len(self.window_starts) - 1

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


def write_lessons(folder: Path, lessons: Lessons, *, meta: dict[str, object]) -> None:
    """Write one shard's lessons as a complete folder."""
    with atomic_folder(folder) as partial:
        write_arrays(
            partial / "lessons.safetensors", {name: getattr(lessons, name) for name in Lessons.__slots__}
        )
        write_manifest(partial, kind=LESSONS_KIND, meta=meta)


def read_lessons(folder: Path) -> Lessons:
    """Read a complete shard.

    Raises:
        InfrastructureError: the folder is unfinished or damaged.
    """
    read_manifest(folder, kind=LESSONS_KIND)
    return Lessons(**read_arrays(folder / "lessons.safetensors"))
