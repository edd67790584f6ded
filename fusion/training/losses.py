"""The fusion loss on sparse target rows: exact, and without a dense `[N, V]` target.

Letters: `N` rows (predicted positions), `V` vocabulary of the head, `K` kept entries of a row.

For weights `w` on ids `S` with `s = sum(w)` and logits `z`, cross-entropy is
`s * logsumexp(z) - sum_S(w * z)` and its gradient `s * softmax(z) - w`: the dense loss to rounding.

Reference: Wan et al., Knowledge Fusion of Large Language Models, https://arxiv.org/abs/2401.10491
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fusion.spec import Follow, Tail

Divergence = Literal["ce", "kl"]

NO_ID = -1
"""Marks a row without a label, and fills the unused places of a row's entries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTargets:
    """What N rows are taught.

    label_ids_N: int64; the actual next token, `NO_ID` where none is known.
    entry_ids_NK: int64; kept ids, distinct within a row, `NO_ID` in unused places.
    entry_weights_NK: floating; probabilities in linear space, 0 in unused places, whatever their id.
    tails_N: floating; mass outside the entries.
    """

    label_ids_N: Tensor
    entry_ids_NK: Tensor
    entry_weights_NK: Tensor
    tails_N: Tensor

    def rows(self, start: int, stop: int) -> "RowTargets":
        """The targets of rows `start:stop`."""
        part = slice(start, stop)
        return RowTargets(
            label_ids_N=self.label_ids_N[part],
            entry_ids_NK=self.entry_ids_NK[part],
            entry_weights_NK=self.entry_weights_NK[part],
            tails_N=self.tails_N[part],
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "RowTargets":
        """The same targets, each tensor changed."""
        return RowTargets(**{name: change(getattr(self, name)) for name in RowTargets.__slots__})

    @property
    def is_taught(self) -> Tensor:
        """bool [N]; rows with an entry, where there is a divergence."""
        return ((self.entry_ids_NK != NO_ID) & (self.entry_weights_NK > 0)).any(dim=-1)

    def only(self, followed_N: Tensor) -> "RowTargets":
        """The same rows, without what speakers say where `followed_N` (bool) is False."""
        return RowTargets(
            label_ids_N=self.label_ids_N,
            entry_ids_NK=self.entry_ids_NK.masked_fill(~followed_N.unsqueeze(-1), NO_ID),
            entry_weights_NK=self.entry_weights_NK,
            tails_N=self.tails_N,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """L = clm_weight * CLM + (1 - clm_weight) * divergence; `clm_weight` 1 is training without fusion.

    clm_weight_alone: weight of CLM at rows without a divergence; None for `clm_weight`.
    follow, follow_margin: see `fusion.training.following`.
    """

    clm_weight: float
    divergence: Divergence
    tail: Tail
    clm_weight_alone: float | None = None
    follow: Follow = "always"
    follow_margin: float = 0.0

    @property
    def fusion_weight(self) -> float:
        return 1.0 - self.clm_weight

    @property
    def needs_entries(self) -> bool:
        """Whether what speakers say makes any difference, if only to the weight of CLM."""
        return self.fusion_weight > 0.0 or self.clm_weight_alone not in (None, self.clm_weight)

    def clm_weights(self, targets: RowTargets) -> Tensor:
        """Weight of CLM at every row. [N]"""
        alone = self.clm_weight if self.clm_weight_alone is None else self.clm_weight_alone
        return torch.where(targets.is_taught, self.clm_weight, alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSums:
    """Sums over rows, in nats; dividing them by a count of tokens is the caller's business.

    total: scalar that carries the gradient: CLM and divergence, weighted row by row.
    fusion: scalar for the records.
    clm_N: what each row pays for its label; 0 without one.
    """

    total: Tensor
    fusion: Tensor
    clm_N: Tensor

    @property
    def clm(self) -> Tensor:
        """Sum of CLM over the rows, for the records."""
        return self.clm_N.sum(dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetMasses:
    """Weights under a tail rule: w_NK on the entries, their sum s_N, and the mass t_N of the bucket.

    used_NK: bool; places that hold an entry.
    """

    used_NK: Tensor
    w_NK: Tensor
    s_N: Tensor
    t_N: Tensor


def target_masses(
    target_ids: Tensor, target_weights: Tensor, *, tail: Tail, tails: Tensor | None
) -> TargetMasses:
    """Apply the tail rule; rows without entries get no mass at all.

    `renormalise` divides by the kept mass. `bucket` keeps the rest as one more outcome (`tails`, or 1 - s
    where not given). `sampled` takes the weights as they are: samples among them stand for the tail.
    """
    used_NK = (target_ids != NO_ID) & (target_weights > 0)
    w_NK = target_weights * used_NK
    s_N, t_N = w_NK.sum(dim=-1), torch.zeros_like(w_NK[..., 0])
    if tail == "renormalise":
        w_NK = w_NK / torch.where(s_N > 0, s_N, 1.0).unsqueeze(-1)
        s_N = (s_N > 0).to(w_NK.dtype)
    elif tail == "bucket":
        rest_N = (1.0 - s_N).clamp(min=0.0) if tails is None else tails.to(s_N.dtype)
        t_N = torch.where(used_NK.any(dim=-1), rest_N, 0.0)
    return TargetMasses(used_NK=used_NK, w_NK=w_NK, s_N=s_N, t_N=t_N)


def row_entropy(masses: TargetMasses) -> Tensor:
    """Entropy in nats of each target row, the bucket counted as one outcome. [N]"""
    return -torch.xlogy(masses.w_NK, masses.w_NK).sum(dim=-1) - torch.xlogy(masses.t_N, masses.t_N)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, accurate at both ends.

    Reference: Maechler, Accurately computing log(1 - exp(-|a|)), 2012.
    """
    # Each branch sees only its own range, so neither sends NaN into the other's gradient.
    near = x > -0.6931471805599453
    small = torch.log(-torch.expm1(torch.where(near, x, -0.5)))
    large = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, small, large)


def sparse_cross_entropy(
    logits: Tensor,
    target_ids: Tensor,
    target_weights: Tensor,
    *,
    tail: Tail = "bucket",
    tails: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of every row of `logits` against a sparse target row, in nats.

    Args:
        logits: [N, V], or with any other leading dimensions; half precision is computed in fp32.
        target_ids: [N, K]; distinct within a row. A row without entries has loss 0.
        target_weights: [N, K]; probabilities in linear space. A place with id `NO_ID` or weight 0 is unused.
        tail: what becomes of the mass outside the entries, see `target_masses`.
        tails: [N]; that mass, for `bucket`.

    Returns:
        [N]; differentiable in `logits`.

    Reference: Wan et al., https://arxiv.org/abs/2401.10491, equation 5.
    """
    z_NV = upcast(logits)
    masses = target_masses(target_ids, target_weights.to(z_NV.dtype), tail=tail, tails=tails)
    lse_N = torch.logsumexp(z_NV, dim=-1)
    z_NK = z_NV.gather(-1, target_ids.clamp(min=0).long())
    loss_N = masses.s_N * lse_N - (masses.w_NK * z_NK).sum(dim=-1)
    if tail == "bucket":
        log_mass_N = log_mass(z_NK - lse_N.unsqueeze(-1), masses.used_NK)
        loss_N = loss_N - masses.t_N * log1mexp(log_mass_N.clamp(max=max_log_mass(log_mass_N.dtype)))
    return loss_N


def sparse_kl_divergence(
    logits: Tensor,
    target_ids: Tensor,
    target_weights: Tensor,
    *,
    tail: Tail = "bucket",
    tails: Tensor | None = None,
) -> Tensor:
    """KL(target row || softmax(logits)) in nats: cross-entropy minus the row's entropy, 0 for equal inputs.

    Under `bucket` the distributions are compared over the kept ids and one outcome for all others.
    Arguments and shapes as in `sparse_cross_entropy`.
    """
    masses = target_masses(target_ids, target_weights.to(upcast(logits).dtype), tail=tail, tails=tails)
    return sparse_cross_entropy(logits, target_ids, target_weights, tail=tail, tails=tails) - row_entropy(
        masses
    )


def label_cross_entropy(logits: Tensor, label_ids: Tensor) -> Tensor:
    """Cross-entropy against the actual next token, in nats; 0 where there is none. [N, V], [N] -> [N]"""
    return torch.nn.functional.cross_entropy(upcast(logits), label_ids, ignore_index=NO_ID, reduction="none")


def fusion_loss(logits: Tensor, targets: RowTargets, *, objective: Objective) -> LossSums:
    """Sums of the fusion objective over rows of logits.

    Args:
        logits: [N, V].
        targets: what each row is taught; a row without entries counts for CLM only, one without label for the
            divergence only.
    """
    clm_N = label_cross_entropy(logits, targets.label_ids_N)
    clm = (objective.clm_weights(targets) * clm_N).sum(dtype=torch.float64)
    if objective.fusion_weight == 0.0:
        return LossSums(total=clm, fusion=torch.zeros_like(clm), clm_N=clm_N.detach())
    divergence = sparse_cross_entropy if objective.divergence == "ce" else sparse_kl_divergence
    fusion = divergence(
        logits, targets.entry_ids_NK, targets.entry_weights_NK, tail=objective.tail, tails=targets.tails_N
    ).sum(dtype=torch.float64)
    total = clm + objective.fusion_weight * fusion
    return LossSums(total=total, fusion=fusion.detach(), clm_N=clm_N.detach())


def log_mass(logprobs_NK: Tensor, used_NK: Tensor) -> Tensor:
    """Log of the student's mass on the kept entries; next to nothing where a row has none. [N, K] -> [N]"""
    # A finite stand-in for log 0: logsumexp over nothing but -inf has a NaN gradient.
    return torch.logsumexp(logprobs_NK.masked_fill(~used_NK, -1e4), dim=-1)


def max_log_mass(dtype: torch.dtype) -> float:
    """Clamp of the log of the student's mass on the entries: beyond it a tail is nothing but rounding."""
    return -8.0 * torch.finfo(dtype).eps


def upcast(logits: Tensor) -> Tensor:
    """Half precision as fp32; anything else unchanged."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
