"""What happens in a job: events, metrics, curves and logs."""

from app.client.resources.resource import Resource


class Event(Resource):
    """`seq` numbers the events of a job from 1."""

    id: str
    seq: int
    type: str
    message: str | None = None
    created_at: int


class MetricPoint(Resource):
    """Numbers of one optimiser step of one training; None for one that was not finite.

    `seq` is the order of writing; a point that a resumed attempt repeats comes again under a new number.
    """

    seq: int
    step_name: str
    step: int
    attempt: int
    values: dict[str, float | None]


class Curve(Resource):
    """One training curve as columns. `best` is the smallest value."""

    x: list[float | None]
    y: list[float | None]
    min: list[float | None]
    max: list[float | None]
    last: float | None = None
    best: float | None = None
    n: int
    downsampled: bool = False


class Curves(Resource):
    """Training curves of a job, by `STEP/VALUE`."""

    x: str
    series: dict[str, Curve]
    removed_until: int = 0
    next_since: int


class LogLine(Resource):
    """A line that an attempt wrote. Lines with one `seq` were stored together."""

    seq: int
    step_name: str
    attempt: int
    level: str
    text: str
    created_at: int
