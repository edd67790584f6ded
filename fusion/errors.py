"""The errors of the engine, as one small tree.

    FusionError
    ├── UserError             the job's author can mend it; never retried
    │   ├── SpecInvalid       the spec contradicts itself or names what is not allowed
    │   ├── ModelUnusable     a checkpoint that cannot be read, or must not be
    │   ├── TokenizerLossy    pieces do not reproduce the text
    │   ├── CorpusInvalid     the text cannot be read
    │   └── TrainingDiverged  the loss stopped being a number
    ├── CapacityError         the machine is too small: disk, memory
    ├── InfrastructureError   network, storage, a lost worker; worth another try
    └── InternalError         our own mistake

Each class fixes a category; each instance carries a `code` for programs, a message for people, a
`hint` that names the way out, and where it applies the `pointer` of the field that is to blame.
Errors cross process borders as JSON (`to_dict`, `error_from_dict`).
"""

from typing import Any, ClassVar, Literal, NotRequired, TypedDict

ErrorCategory = Literal["user", "capacity", "infrastructure", "internal"]


class ErrorDict(TypedDict):
    code: str
    category: ErrorCategory
    message: str
    hint: str | None
    pointer: str | None
    retryable: bool
    retry_after_seconds: NotRequired[float]
    """How long a server asked to be left alone."""
    fingerprint: NotRequired[str]
    """Of an unknown error: the same place in the code gives the same one."""
    log_tail: NotRequired[list[str]]
    """Last lines that the attempt wrote."""


class FusionError(Exception):
    """Base of all errors of the engine."""

    category: ClassVar[ErrorCategory] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str,
        hint: str | None = None,
        pointer: str | None = None,
        retry_after_seconds: float | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.pointer = pointer
        self.retry_after_seconds = retry_after_seconds
        self.fingerprint = fingerprint

    def to_dict(self) -> ErrorDict:
        data = ErrorDict(
            code=self.code,
            category=self.category,
            message=self.message,
            hint=self.hint,
            pointer=self.pointer,
            retryable=self.retryable,
        )
        if self.retry_after_seconds is not None:
            data["retry_after_seconds"] = self.retry_after_seconds
        if self.fingerprint is not None:
            data["fingerprint"] = self.fingerprint
        return data


class UserError(FusionError):
    """Something the job's author asked for cannot be done. Never retried."""

    category = "user"


class SpecInvalid(UserError):
    """The spec contradicts itself or names something that is not allowed here."""


class ModelUnusable(UserError):
    """A checkpoint is missing, is not a causal language model, or may not be read safely."""


class TokenizerLossy(UserError):
    """The pieces of a tokenizer do not concatenate to the text it was given."""


class CorpusInvalid(UserError):
    """The corpus is empty, is not UTF-8, or a record of it cannot be read."""


class TrainingDiverged(UserError):
    """The training loss is NaN or infinite."""


class CapacityError(FusionError):
    """The machine lacks disk or memory for this job."""

    category = "capacity"


class InfrastructureError(FusionError):
    """Network, storage or worker trouble that another attempt may survive."""

    category = "infrastructure"
    retryable = True


class InternalError(FusionError):
    """A mistake of ours."""


_CLASS_OF_CATEGORY: dict[str, type[FusionError]] = {
    "user": UserError,
    "capacity": CapacityError,
    "infrastructure": InfrastructureError,
    "internal": InternalError,
}


def error_from_dict(data: dict[str, Any]) -> FusionError:
    """Rebuild an error that another process reported; the category decides its class."""
    error_class = _CLASS_OF_CATEGORY.get(data.get("category", "internal"), InternalError)
    return error_class(
        data.get("message") or "no message",
        code=data.get("code") or "internal",
        hint=data.get("hint"),
        pointer=data.get("pointer"),
        retry_after_seconds=data.get("retry_after_seconds"),
        fingerprint=data.get("fingerprint"),
    )
