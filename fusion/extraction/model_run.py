"""Running a model over windows, once there are any: a job that finds all of them stored never loads it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusion.errors import ModelUnusable
from fusion.exhaustion import is_out_of_memory
from fusion.extraction.batch_budget import MemoryMeter, TokenBudget, probe_forward_cost, tokens_that_fit
from fusion.extraction.capture_plan import CapturePlan
from fusion.extraction.capturing import PaddingCount, capture_shard
from fusion.extraction.logit_rows import LogitRows, default_rows_per_chunk
from fusion.extraction.shard_text import encode_shard
from fusion.io.captures import Capture
from fusion.io.windows import Window
from fusion.llms.checkpoints import checkpoint_digest
from fusion.llms.device_memory import DeviceMemory, release_cached_memory
from fusion.llms.loading import load_model
from fusion.progress import Progress


@dataclass(kw_only=True, slots=True)
class Tally:
    """Sums over the shards, those of earlier attempts included, and the time of this one.

    num_new_tokens: read by the model in this attempt. num_cached_tokens: taken from the cache, or from an
    equal window of the shard. num_reused_tokens: in shards that earlier attempts finished.
    """

    num_windows: int
    done_windows: int = 0
    num_tokens: int = 0
    num_new_tokens: int = 0
    num_cached_tokens: int = 0
    num_reused_tokens: int = 0
    padding: PaddingCount = field(default_factory=PaddingCount)
    started: float = field(default_factory=time.monotonic)


class ModelRun:
    """The model of an `extract` step, loaded when it is first needed."""

    def __init__(self, plan: CapturePlan, *, tally: Tally, budget: TokenBudget, progress: Progress) -> None:
        self._plan = plan
        self._tally = tally
        self._budget = budget
        self._progress = progress
        self._model: LogitRows | None = None

    def capture(self, windows: Sequence[Window]) -> Capture:
        """The capture of these windows."""
        model = self._loaded()
        text = encode_shard(windows, encoder=self._plan.encoder, start_id=self._plan.start_id)
        halvings = self._budget.num_halvings
        capture = capture_shard(
            text,
            model=model,
            device=self._plan.device,
            settings=self._plan.settings,
            budget=self._budget,
            padding=self._tally.padding,
            on_batch=self._count,
        )
        if self._budget.num_halvings > halvings:
            self._progress.note(
                f"out of device memory: batches of at most {self._budget.max_tokens} tokens from now on",
                max_tokens_per_batch=self._budget.max_tokens,
            )
        self._tally.done_windows += text.num_lossy_windows
        return capture

    def _loaded(self) -> LogitRows:
        if self._model is None:
            self._model = _load(self._plan)
            if self._plan.max_tokens_per_batch is None:
                self._fit_budget(self._model)
            reason = self._model.whole_reason
            if reason is not None:
                self._progress.note(
                    f"the logits of a batch are held all at once, which costs memory: {reason}"
                )
        return self._model

    def _fit_budget(self, model: LogitRows) -> None:
        usual = self._budget.max_tokens
        fit_budget(self._budget, model, plan=self._plan, memory=DeviceMemory(self._plan.device))
        fitting = self._budget.max_tokens
        if fitting < usual:
            self._progress.note(
                f"free memory is short: batches of at most {fitting} tokens instead of {usual}",
                max_tokens_per_batch=fitting,
            )

    def skip(self, *, num_windows: int, num_rows: int) -> None:
        """Count windows that the model need not read."""
        if num_windows:
            self._tally.num_cached_tokens += num_rows
            self._report(num_windows, num_rows)

    def _count(self, num_windows: int, num_rows: int) -> None:
        self._tally.num_new_tokens += num_rows
        self._report(num_windows, num_rows)

    def _report(self, num_windows: int, num_rows: int) -> None:
        tally = self._tally
        tally.done_windows += num_windows
        tally.num_tokens += num_rows
        self._progress.update(tally.done_windows, tally.num_windows, unit="windows", tokens=tally.num_tokens)


def fit_budget(budget: TokenBudget, model: LogitRows, *, plan: CapturePlan, memory: MemoryMeter) -> None:
    """Lower the budget to what a probe says that the free memory holds; to one window if it cannot say."""
    try:
        cost = probe_forward_cost(
            model.run_backbone,
            meter=memory,
            device=plan.device,
            token_id=plan.start_id,
            longest=plan.max_tokens_per_window,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        release_cached_memory()
        budget.limit_to_one_window()
        return
    fitting = tokens_that_fit(
        cost,
        longest=plan.max_tokens_per_window,
        free_bytes=memory.free_bytes(),
        reserved_bytes=model.chunk_bytes,
    )
    budget.limit(max(1, fitting >> plan.num_batch_halvings))


def _load(plan: CapturePlan) -> LogitRows:
    """The model that `prepare` saw: under its digest the cache serves other jobs.

    Raises:
        ModelUnusable: the checkpoint was changed since, or cannot be loaded.
    """
    if checkpoint_digest(plan.folder) != plan.model_digest:
        raise ModelUnusable(
            f"the checkpoint of {plan.name!r} at {plan.folder} is not the one that this job began with",
            code="model_changed",
            hint="submit the job again, and leave the folder alone while it runs",
            pointer=plan.pointer,
        )
    model = load_model(plan.folder, dtype=plan.dtype, device=plan.device)
    return LogitRows(
        model,
        rows_per_chunk=default_rows_per_chunk(
            model.config.vocab_size, device=plan.device, sampled=plan.settings.num_tail_samples > 0
        ),
    )
