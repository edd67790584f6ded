"""The command `fusion`. Heavy imports happen inside the command that needs them: `--help` is instant."""

from app.cli.commands import app, main

__all__ = ["app", "main"]
