"""Stage `align`: the captures of all sources become lessons, shard by shard.

Per window: which source row speaks for which row of the target, what its entries are called there, who speaks
where, and what is learnt where nobody does. Choices the settings leave open:

* Under `min_ce` the winner is chosen per span, and its row is used whatever it is: where it is unaligned the
  rule for unaligned rows applies, another source does not step in. Under `avg_ce` and `weighted` only sources
  with a row take part; under `one_hot_current` the others say the current token, as in the reference.
* A row masked for its whitespace stays masked under every rule for unaligned rows.
* A row whose entries all map nowhere counts as unaligned (the reference copies the target's own row there).
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fusion.alignment.lesson_rows import TARGET, join_lessons
from fusion.alignment.listeners import build_aligner, load_encoders
from fusion.alignment.tally import Tally
from fusion.alignment.target_text import TargetText, read_target_text
from fusion.errors import InfrastructureError, ModelUnusable
from fusion.io.atomic import read_json
from fusion.io.captures import Capture, read_capture, shard_folder
from fusion.io.lessons import LESSONS_KIND, write_lessons
from fusion.io.manifest import MANIFEST_NAME, is_complete, read_manifest, write_manifest
from fusion.io.stage_inputs import StageInputs
from fusion.io.windows import list_shards, read_windows, windows_path
from fusion.llms.token_bytes import TextEncoder
from fusion.progress import Progress, StageReport
from fusion.spec import FusionSpec

_MIN_BLOCK_TOKENS = 1 << 15
_MISMATCH_HINT = "submit the job anew, so that preparation and extraction read the same corpus and models"


def run(spec: FusionSpec, inputs: StageInputs, out_dir: Path, *, progress: Progress) -> StageReport:
    """Write `shard-00000/` per shard of the training split. Finished shards of an earlier attempt are kept.

    Raises:
        ModelUnusable: a tokenizer cannot be read.
        InfrastructureError: an input folder is damaged, or belongs to other text or to another tokenizer.
    """
    began = time.perf_counter()
    shards = list_shards(inputs.steps["prepare"], "train")
    tally = Tally()
    todo: list[int] = []
    for shard in shards:
        finished = _finished_part(shard_folder(out_dir, shard), progress=progress)
        if finished is None:
            todo.append(shard)
        else:
            tally.add(finished)
    num_new_tokens = 0
    if todo:
        new = _align_shards(
            spec, inputs, out_dir, todo, num_finished=len(shards) - len(todo), progress=progress
        )
        num_new_tokens = new.num_target_tokens
        tally.add(new)
    figures = tally.figures()
    manifest = write_manifest(out_dir, kind=LESSONS_KIND, meta=figures, files=_output_files(out_dir, shards))
    seconds = time.perf_counter() - began
    speed = {"seconds": round(seconds, 3), "tokens_per_second": round(num_new_tokens / seconds, 1)}
    return StageReport(figures={**figures, **speed, "num_bytes": manifest.num_bytes})


def _align_shards(
    spec: FusionSpec,
    inputs: StageInputs,
    out_dir: Path,
    shards: list[int],
    *,
    num_finished: int,
    progress: Progress,
) -> Tally:
    """Align `shards`, blocks of windows at a time in threads: the compiled parts run side by side."""
    encoders = load_encoders(spec, inputs)
    head = read_json(inputs.steps["prepare"] / "models.json")[TARGET]
    aligner = build_aligner(spec, encoders, num_target_rows=head["vocabulary_size"])
    num_shards = num_finished + len(shards)
    total = Tally()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, shard in enumerate(shards, start=num_finished):
            captures = _read_captures(spec, inputs, shard, encoders)
            text = _read_text(inputs, shard, captures, encoders[TARGET])
            blocks = _blocks(text)
            tally, parts = Tally(), []
            results = pool.map(
                lambda block, text=text, captures=captures: aligner.align(
                    text.part(*block), captures, block[0]
                ),
                blocks,
            )
            for (_, stop), (lessons, counts) in zip(blocks, results, strict=True):
                parts.append(lessons)
                tally.add(counts)
                tokens = total.num_target_tokens + tally.num_target_tokens
                progress.update(done + stop / text.num_windows, num_shards, unit="shards", tokens=tokens)
            folder = shard_folder(out_dir, shard)
            write_lessons(folder, join_lessons(parts), meta=tally.to_dict())
            progress.part_finished(folder)
            total.add(tally)
    return total


def _read_text(
    inputs: StageInputs, shard: int, captures: dict[str, Capture], encoder: TextEncoder
) -> TargetText:
    windows = read_windows(windows_path(inputs.steps["prepare"], "train", shard))
    for name, capture in captures.items():
        if capture.num_windows != len(windows):
            raise InfrastructureError(
                f"the capture of {name} has {capture.num_windows} windows in shard {shard}, "
                f"the text has {len(windows)}: they are not of the same corpus",
                code="capture_mismatch",
                hint=_MISMATCH_HINT,
            )
    if encoder.start_id is None:
        raise ModelUnusable(
            "the target's tokenizer has neither BOS nor EOS, so its windows have no start",
            code="tokenizer_no_start_token",
            hint="set bos_token or eos_token in the model's tokenizer_config.json, or choose another target",
            pointer="/target/model",
        )
    return read_target_text(windows, encoder=encoder, start_id=encoder.start_id, capture=captures.get(TARGET))


def _read_captures(
    spec: FusionSpec, inputs: StageInputs, shard: int, encoders: dict[str, TextEncoder]
) -> dict[str, Capture]:
    captures: dict[str, Capture] = {}
    for name in spec.captured_names:
        capture = read_capture(shard_folder(inputs.steps[f"extract.{name}"], shard))
        ids = (capture.top_ids, capture.sample_ids, capture.next_ids)
        highest = max(int(each.max(initial=0)) for each in ids)
        # The compiled loops index by these ids without a check of their own.
        if highest >= encoders[name].size:
            raise InfrastructureError(
                f"the capture of {name} holds id {highest}, its tokenizer has {encoders[name].size}: "
                "they are not of the same model",
                code="capture_mismatch",
                hint=_MISMATCH_HINT,
            )
        captures[name] = capture
    return captures


def _blocks(text: TargetText) -> list[tuple[int, int]]:
    """(first, stop) windows of pieces of work, each of a few ten thousand tokens."""
    blocks: list[tuple[int, int]] = []
    first = 0
    for stop in range(1, text.num_windows + 1):
        enough = text.window_starts[stop] - text.window_starts[first] >= _MIN_BLOCK_TOKENS
        if enough or stop == text.num_windows:
            blocks.append((first, stop))
            first = stop
    return blocks


def _finished_part(folder: Path, *, progress: Progress) -> Tally | None:
    """Counts of a shard that an earlier attempt finished; None when it has to be done."""
    if not is_complete(folder):
        return None
    try:
        return Tally.from_dict(read_manifest(folder, kind=LESSONS_KIND).meta)
    except InfrastructureError as error:
        progress.note("a finished shard is damaged and is aligned again", reason=error.message)
        return None


def _output_files(out_dir: Path, shards: list[int]) -> list[str]:
    names = [shard_folder(Path(), shard).as_posix() for shard in shards]
    return [f"{name}/{file}" for name in names for file in ("lessons.safetensors", MANIFEST_NAME)]
