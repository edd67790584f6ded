"""What an artifact is to its step."""

from enum import StrEnum


class ArtifactKind(StrEnum):
    """Why a folder was stored."""

    OUTPUT = "output"
    """The output of a step, which later steps read."""
    CHECKPOINT = "checkpoint"
    """A finished part of a running step, from which another attempt goes on. Its role is its path."""
    MODEL = "model"
    """A fused checkpoint, which users download."""
    LOG = "log"
    """The log of an attempt, as earlier releases kept it; now it is `app.jobs.attempt_logs`."""
