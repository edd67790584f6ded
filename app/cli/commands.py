"""The table of commands, and how their errors become exit codes."""

import sys
from typing import TYPE_CHECKING

import typer

from app.cli.action_commands import cancel, clone, pause, priority, resume, retry
from app.cli.audit_command import audit
from app.cli.checkpoint_commands import checkpoints, promote
from app.cli.download_command import download
from app.cli.engine_commands import cache, run, schema, validate
from app.cli.estimate_command import estimate
from app.cli.following_commands import events, logs
from app.cli.job_commands import list_jobs, show, submit, watch
from app.cli.key_commands import key_app
from app.cli.model_commands import models
from app.cli.operation_commands import backup, doctor, gc, housekeeper
from app.cli.output import ExitCode, print_error
from app.cli.project_commands import project_app
from app.cli.publish_commands import publish_app
from app.cli.recipe_commands import recipe_app
from app.cli.secret_commands import secret_app
from app.cli.serve_commands import serve, worker
from app.cli.usage_command import usage
from app.cli.webhook_commands import webhook_app

if TYPE_CHECKING:
    from app.client import ApiError

app = typer.Typer(
    help="Fuse what several language models know into one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve)
app.command()(worker)
app.command()(housekeeper)
app.command()(gc)
app.command()(backup)
app.command()(doctor)
app.add_typer(key_app, name="key")
app.add_typer(project_app, name="project")
app.add_typer(webhook_app, name="webhooks")
app.add_typer(secret_app, name="secret")
app.add_typer(recipe_app, name="recipe")
app.add_typer(publish_app, name="publish")
app.command()(audit)
app.command()(usage)
app.command()(submit)
app.command()(estimate)
app.command("list")(list_jobs)
app.command()(show)
app.command()(watch)
app.command()(events)
app.command()(logs)
app.command()(cancel)
app.command()(pause)
app.command()(resume)
app.command()(retry)
app.command()(clone)
app.command()(priority)
app.command()(models)
app.command()(checkpoints)
app.command()(promote)
app.command()(download)
app.command()(run)
# The engine's own command, help included: what follows `cache` is handed on as it is.
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)(cache)
app.command()(validate)
app.command()(schema)


def main() -> None:
    """Entry point: every expected failure is one clear paragraph and an exit code, never a traceback."""
    try:
        app()
    except BrokenPipeError:
        # The reader of our output went away (`fusion list | head`); nothing can be said to it any more.
        sys.stderr.close()
        sys.exit(ExitCode.ERROR)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        code = report(error)
        if code is None:
            raise
        sys.exit(code)


def report(error: Exception) -> ExitCode | None:
    """Say what went wrong; None when the error is none that a user is expected to see."""
    # Imported only now, so that `--help` does not pay for them.
    from app.client.errors import (
        ApiError,
        AuthenticationError,
        ClientError,
        InvalidRequestError,
        NotFoundError,
    )
    from fusion.errors import FusionError, UserError

    if isinstance(error, FusionError):
        print_error(f"{error.code}: {error.message}", hint=error.hint)
        return ExitCode.USAGE if isinstance(error, UserError) else ExitCode.ERROR
    if not isinstance(error, ClientError):
        return None
    if isinstance(error, ApiError):
        message, details = _explanation(error)
        print_error(f"{error.code}: {message}", hint=error.hint, details=details)
    else:
        print_error(error.message, hint=error.hint)
    if isinstance(error, AuthenticationError):
        return ExitCode.AUTHENTICATION
    if isinstance(error, NotFoundError):
        return ExitCode.NOT_FOUND
    return ExitCode.USAGE if isinstance(error, InvalidRequestError) else ExitCode.ERROR


def _explanation(error: "ApiError") -> tuple[str, list[str]]:
    """The message and a line per wrong field, each thing said once: most messages repeat their fields."""
    details = [f"{item.pointer or '/'}: {item.detail}" for item in error.errors]
    if not details or any(item.detail not in error.message for item in error.errors):
        return error.message, details
    return (error.message, []) if len(details) == 1 else (f"{len(details)} fields are wrong", details)
