"""Structured logs: one JSON object per line, with the ids of what is being worked on."""

import logging
import sys
from contextvars import ContextVar
from typing import TextIO

import structlog

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)


def configure_logs(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr as JSON."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # It greets at every look at the version.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    # It tells every URL, and some are signed: whoever reads them may do what they say.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is now, which need not be what it was at the start."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events are names and whose facts are keyword arguments."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
