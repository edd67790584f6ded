"""What a model does to the output of its last layer before these are its logits.

Letters: `C` rows of a chunk, `V` vocabulary of the head.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitShape:
    """`z = scale * y`, or with a cap `z = cap * tanh(scale * y / cap)`, for the layer's output `y`.

    Scales are found in Cohere, Granite and Falcon-H1, caps in Gemma 2, 3n and 4.
    """

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, y_CV: Tensor) -> None:
        """Turn `y` into `z` in place."""
        if self.scale != 1.0:
            y_CV.mul_(self.scale)
        if self.cap is not None:
            y_CV.div_(self.cap).tanh_().mul_(self.cap)

    def apply_with_slope_(self, y_CV: Tensor) -> Tensor | None:
        """The same, and what `gradient_` needs, None without a cap. [C, V]"""
        if self.scale != 1.0:
            y_CV.mul_(self.scale)
        if self.cap is None:
            return None
        slope_CV = y_CV.div_(self.cap).tanh_().square().neg_().add_(1.0)
        y_CV.mul_(self.cap)
        return slope_CV

    def gradient_(self, grad_CV: Tensor, slope_CV: Tensor | None) -> None:
        """Turn the gradient by `z` into the gradient by `y`, in place."""
        if slope_CV is not None:
            grad_CV.mul_(slope_CV)
        if self.scale != 1.0:
            grad_CV.mul_(self.scale)
