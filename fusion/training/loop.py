"""The training loop: one optimiser step after the other, resumable at any of them."""

import hashlib
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from fusion.errors import CapacityError, InfrastructureError, TrainingDiverged
from fusion.exhaustion import is_out_of_memory
from fusion.io.end_request import asked_to_end
from fusion.llms.device_memory import release_cached_memory
from fusion.progress import Progress
from fusion.spec import TrainingSpec
from fusion.training.batches import MicroBatch, Schedule
from fusion.training.checkpoints import (
    TrainState,
    load_checkpoint,
    newest_checkpoint,
    older_checkpoints,
    save_checkpoint,
)
from fusion.training.feed import Feed
from fusion.training.following import Following, sums_by_rival
from fusion.training.loader import LessonReader
from fusion.training.losses import LossSums, Objective
from fusion.training.optimiser import build_optimiser, learning_rate_at, set_learning_rate
from fusion.training.student import Student

_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSums:
    """Sums over one optimiser step of all ranks.

    total, clm, fusion: nats. num_fusion_rows: rows with a divergence. student_S, rival_S: see `Following`.
    """

    total: float
    clm: float
    fusion: float
    num_fusion_rows: float
    student_S: list[float]
    rival_S: list[float]

    @staticmethod
    def of(values: list[float]) -> "StepSums":
        """From the order in which `_step_sums` lays them out."""
        total, clm, fusion, num_fusion_rows, *nats = values
        num_slots = len(nats) // 2
        return StepSums(
            total=total,
            clm=clm,
            fusion=fusion,
            num_fusion_rows=num_fusion_rows,
            student_S=nats[:num_slots],
            rival_S=nats[num_slots:],
        )


class Trainer:
    """One training run: student, data and settings, and the state that moves."""

    def __init__(
        self,
        student: Student,
        reader: LessonReader,
        *,
        training: TrainingSpec,
        objective: Objective,
        seed: int,
        accelerator: Accelerator,
        autocast_dtype: torch.dtype | None,
        checkpoint_folder: Path,
        target: Path,
        digest: str,
        progress: Progress,
        max_tokens_per_micro_batch: int,
        num_speakers: int,
    ) -> None:
        self.student = student
        self.reader = reader
        self.training = training
        self.objective = objective
        self.seed = seed
        self.accelerator = accelerator
        self.autocast_dtype = autocast_dtype
        self.checkpoint_folder = checkpoint_folder
        self.target = target
        self.digest = digest
        self.progress = progress
        self.optimiser = build_optimiser(student.model, training)
        self.schedule = Schedule(
            num_sequences=len(reader),
            sequences_per_step=training.sequences_per_step,
            num_epochs=training.num_epochs,
            max_steps=training.max_steps,
            seed=seed,
        )
        self.state = TrainState(
            max_tokens_per_micro_batch=max_tokens_per_micro_batch,
            student_S=[0.0] * (num_speakers + 1),
            rival_S=[0.0] * (num_speakers + 1),
        )
        self.data_wait_seconds = 0.0
        """How long computing stood still for the next micro-batch."""
        self.num_resumed_steps = 0
        self.num_resumed_tokens = 0
        self._logged_at = time.monotonic()

    def run(self) -> TrainState:
        """Train to the end, from the newest usable checkpoint on.

        On SIGTERM it stores a checkpoint after the step that is under way and ends.

        Raises:
            TrainingDiverged: loss or gradient is not a number.
            CapacityError: not even one sequence fits into memory.
            InfrastructureError: it was asked to end.
        """
        self._resume()
        self._logged_at = time.monotonic()
        with (
            asked_to_end(listen=self.accelerator.num_processes == 1) as end_is_wanted,
            self.open_feed() as feed,
        ):
            while self.state.step < self.schedule.num_steps:
                self._step(feed)
                if end_is_wanted() and self.state.step < self.schedule.num_steps:
                    self._end_early()
            self.data_wait_seconds = feed.wait_seconds
        return self.state

    def open_feed(self) -> Feed:
        """This rank's micro-batches; to be closed when training ends, however it does."""
        return Feed(
            self.reader,
            self.schedule,
            rank=self.accelerator.process_index,
            num_ranks=self.accelerator.num_processes,
            device=self.accelerator.device,
        )

    def _end_early(self) -> None:
        """Keep what was trained so far and end."""
        if self.state.step % self.training.checkpoint_every_steps:
            self._commit()
        raise InfrastructureError(
            f"training was asked to end after step {self.state.step}; its checkpoint is stored",
            code="stage_terminated",
            hint="it continues from there when it is run again",
        )

    def _resume(self) -> None:
        found = newest_checkpoint(
            self.checkpoint_folder,
            digest=self.digest,
            on_unusable=lambda name, reason: self.progress.note(f"checkpoint {name} is not used: {reason}"),
        )
        if found is not None:
            budget = self.state.max_tokens_per_micro_batch
            self.state = load_checkpoint(found, model=self.student.model, optimiser=self.optimiser)
            self.state.max_tokens_per_micro_batch = min(budget, self.state.max_tokens_per_micro_batch)
            self.num_resumed_steps = self.state.step
            self.num_resumed_tokens = self.state.num_tokens
            self.progress.note(f"training continues after step {self.state.step}", checkpoint=found.name)

    def _step(self, feed: Feed) -> None:
        step = self.state.step
        learning_rate = learning_rate_at(step, self.schedule.num_steps, self.training)
        set_learning_rate(self.optimiser, learning_rate)
        numbers = self.schedule.sequences_of(step)
        # A sequence of n tokens has n - 1 labels; every rank can count those of all ranks.
        num_labels = int(self.reader.num_tokens_of[numbers].sum()) - len(numbers)
        local_sums = self._gradients_within_memory(feed, numbers, num_labels)
        self._sum_gradients_over_ranks()
        norm = torch.nn.utils.clip_grad_norm_(self.student.model.parameters(), self.training.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        sums, grad_norm = self._read(local_sums, norm, num_labels)
        if step < self.schedule.steps_per_epoch:
            self.following.add(sums.student_S, sums.rival_S)
        self.state.step += 1
        self.state.num_tokens += num_labels
        self._record(sums, num_labels=num_labels, grad_norm=grad_norm, learning_rate=learning_rate)
        self.progress.update(
            self.state.step, self.schedule.num_steps, unit="steps", tokens=self.state.num_tokens
        )
        if self.state.step % self.training.checkpoint_every_steps == 0:
            self._commit()

    def _gradients_within_memory(self, feed: Feed, numbers: Any, num_labels: int) -> torch.Tensor:
        """Gradients of one step; out of memory halves the micro-batches and starts the step again."""
        while True:
            try:
                return self._local_gradients(feed, num_labels)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # After the block: inside it, the traceback keeps the failed pass's tensors alive.
            self._halve_micro_batches(int(self.reader.num_tokens_of[numbers].max()))

    @property
    def following(self) -> Following:
        """A view of the state, so that a checkpoint holds what has been measured."""
        return Following(
            student_S=self.state.student_S,
            rival_S=self.state.rival_S,
            margin=self.objective.follow_margin,
        )

    @property
    def followed(self) -> list[bool]:
        """Whom the next step follows: each speaker, and mixtures."""
        measured = self.following.followed
        return measured if self.objective.follow == "while_better" else [True] * len(measured)

    def _local_gradients(self, feed: Feed, num_labels: int) -> torch.Tensor:
        """Accumulate this rank's gradients; returns the values of its `StepSums`, fp64 on the device."""
        rank = self.accelerator.process_index
        # Dropout becomes a function of (seed, step, rank): nothing to save, nothing a restart could shift.
        torch.manual_seed(random_seed(self.seed, self.state.step, rank))
        device = self.accelerator.device
        followed_S = self.followed
        sums = torch.zeros(4 + 2 * len(followed_S), dtype=torch.float64, device=device)
        for batch in feed.micro_batches(self.state.step, max_tokens=self.state.max_tokens_per_micro_batch):
            if not all(followed_S):
                batch = batch.following(followed_S)
            with torch.autocast(device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
                losses = self.student.losses(batch, objective=self.objective)
            (losses.total / num_labels).backward()
            sums += _step_sums(losses, batch, num_slots=len(followed_S))
        return sums

    def _halve_micro_batches(self, longest: int) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        release_cached_memory()
        if self.state.max_tokens_per_micro_batch <= longest:
            raise CapacityError(
                f"one sequence of {longest} tokens does not fit into memory during training",
                code="out_of_memory",
                hint="lower corpus.max_tokens_per_window, set training.gradient_checkpointing: true, "
                "or use a machine with more memory",
                pointer="/corpus/max_tokens_per_window",
            )
        halved = max(longest, self.state.max_tokens_per_micro_batch // 2)
        self.progress.note(
            "out of memory: micro-batches are halved, the optimiser step stays the same",
            max_tokens_per_micro_batch=halved,
        )
        self.state.max_tokens_per_micro_batch = halved

    def _sum_gradients_over_ranks(self) -> None:
        """Add the ranks' gradients, each already divided by the tokens of all ranks."""
        if self.accelerator.num_processes == 1:
            return
        for parameter in self.student.model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def _read(self, local: torch.Tensor, norm: torch.Tensor, num_labels: int) -> tuple[StepSums, float]:
        """The step's sums over all ranks and its gradient norm before clipping; refuse numbers that are none.

        The only place where the host waits for the device, once per step and after the update was queued: a
        refused step is never counted nor committed.
        """
        summed = self.accelerator.reduce(local, reduction="sum")
        *values, grad_norm = torch.cat([summed, norm.to(summed)[None]]).tolist()
        sums = StepSums.of(values)
        loss = sums.total / num_labels
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise TrainingDiverged(
                f"at step {self.state.step + 1} the loss is {loss} and the gradient norm {grad_norm}",
                code="training_diverged",
                hint=f"lower training.learning_rate (now {self.training.learning_rate}) or raise "
                "training.warmup_fraction; at the first step, check that the target's weights are finite",
                pointer="/training/learning_rate",
            )
        return sums, grad_norm

    def _record(self, sums: StepSums, *, num_labels: int, grad_norm: float, learning_rate: float) -> None:
        """Add to the pending sums; every `log_every_steps` steps, and at the end, turn them into a record."""
        state = self.state
        added = {
            "total": sums.total,
            "clm": sums.clm,
            "fusion": sums.fusion,
            "num_fusion_rows": sums.num_fusion_rows,
            "num_labels": float(num_labels),
        }
        pending = {name: state.pending.get(name, 0.0) + value for name, value in added.items()}
        state.pending = pending
        if state.step % self.training.log_every_steps and state.step < self.schedule.num_steps:
            return
        values = {
            "loss": pending["total"] / pending["num_labels"],
            "clm_loss": pending["clm"] / pending["num_labels"],
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
        }
        if self.objective.fusion_weight and pending["num_fusion_rows"]:
            values["fusion_loss"] = pending["fusion"] / pending["num_fusion_rows"]
        state.pending = {}
        state.curve.append({"step": state.step, **values})
        now = time.monotonic()
        speed = pending["num_labels"] / max(now - self._logged_at, 1e-9)
        self._logged_at = now
        self.progress.metrics(state.step, values | {"tokens": state.num_tokens, "tokens_per_second": speed})

    def _commit(self) -> None:
        """Write a checkpoint, announce it, then forget the oldest."""
        if self.accelerator.is_main_process:
            path = save_checkpoint(
                self.checkpoint_folder,
                state=replace(self.state),
                model=self.student.model,
                optimiser=self.optimiser,
                digest=self.digest,
                target=self.target,
            )
            self.progress.part_finished(path)
            for old in older_checkpoints(self.checkpoint_folder, keep_last=_KEPT_CHECKPOINTS):
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()


def _step_sums(losses: LossSums, batch: MicroBatch, *, num_slots: int) -> torch.Tensor:
    """What one micro-batch adds to its step: see `StepSums`."""
    sums = [losses.total.detach(), losses.clm, losses.fusion]
    num_fusion_rows = batch.targets.is_taught.sum(dtype=torch.float64)
    # A row whose next token has no bytes (EOS) has no rival's nats to be compared with.
    student_N = torch.where(batch.rival_nats_N > 0, losses.clm_N, 0.0)
    by_rival = [
        sums_by_rival(nats_N, batch.rivals_N, num_slots=num_slots)
        for nats_N in (student_N, batch.rival_nats_N)
    ]
    return torch.cat([torch.stack([*sums, num_fusion_rows]), *by_rival])


def random_seed(*parts: int) -> int:
    """A seed for torch, mixed from small integers."""
    digest = hashlib.sha256(np.array(parts, np.int64).tobytes()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
