"""priorities, budgets, and triggers that refuse illegal moves

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-25 00:50:00

The triggers hold whatever the code does: a step moves only along MOVES, its attempt rises by one with each
claim and never otherwise, what is finished does not change (a retry by the user takes up what failed), and
history is only appended to. SQLite drops a table's triggers when a later migration rebuilds the table
(`recreate`): such a migration must make them again.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOVES = {
    "pending": ("cancelled", "queued"),
    "queued": ("cancelled", "running"),
    "running": ("cancelled", "failed", "queued", "succeeded"),
    "succeeded": (),
    "failed": ("queued",),
    "cancelled": ("pending",),
}
"""Frozen copy of `app.jobs.lifecycle.MOVES`, as this revision knew it; a test compares."""

FINISHED = ("succeeded", "failed", "cancelled")
FROZEN_JOB_COLUMNS = (
    "project_id",
    "spec",
    "spec_digest",
    "status",
    "desired",
    "status_reason",
    "error",
    "created_by",
    "created_at",
    "started_at",
    "finished_at",
)
"""What of a finished job never changes. Its labels may, and its history may grow."""

CLAIMABLE = "status = 'queued' AND ready_at IS NOT NULL"
RUNNING = "outcome = 'running'"


def upgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("cloned_from_id", sa.String(length=40), nullable=True))
    with op.batch_alter_table("steps", schema=None) as batch_op:
        for name in ("claim_rank", "num_errors", "num_losses", "num_batch_halvings"):
            batch_op.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        batch_op.create_index(
            "ix_steps_claimable",
            ["project_id", "resource", "claim_rank", "job_id", "position"],
            unique=False,
            sqlite_where=sa.text(CLAIMABLE),
            postgresql_where=sa.text(CLAIMABLE),
        )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_attempts_project_id_started_at"), ["project_id", "started_at"], unique=False
        )
        batch_op.create_index(
            "uq_attempts_running",
            ["step_id"],
            unique=True,
            sqlite_where=sa.text(RUNNING),
            postgresql_where=sa.text(RUNNING),
        )
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_artifacts_step_id_kind_role"))
        batch_op.create_index("uq_artifacts_step_id_kind_role", ["step_id", "kind", "role"], unique=True)
    for statement in _guards(op.get_bind().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    for statement in _guard_drops(op.get_bind().dialect.name):
        op.execute(statement)
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_index("uq_artifacts_step_id_kind_role")
        batch_op.create_index(
            batch_op.f("ix_artifacts_step_id_kind_role"), ["step_id", "kind", "role"], unique=False
        )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index("uq_attempts_running")
        batch_op.drop_index(batch_op.f("ix_attempts_project_id_started_at"))
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.drop_index("ix_steps_claimable")
        for name in ("num_batch_halvings", "num_losses", "num_errors", "claim_rank"):
            batch_op.drop_column(name)
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("cloned_from_id")
        batch_op.drop_column("priority")


def _words(values: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"


def _step_move_is_allowed() -> str:
    live = tuple(source for source in MOVES if source not in FINISHED)
    moves = [f"(OLD.status = NEW.status AND OLD.status IN {_words(live)})"]
    moves += [
        f"(OLD.status = '{source}' AND NEW.status IN {_words(targets)})"
        for source, targets in MOVES.items()
        if targets
    ]
    claimed = "CASE WHEN OLD.status = 'queued' AND NEW.status = 'running' THEN 1 ELSE 0 END"
    return (
        f"({' OR '.join(moves)}) AND NEW.attempt = OLD.attempt + {claimed}"
        " AND NEW.id = OLD.id AND NEW.job_id = OLD.job_id AND NEW.project_id = OLD.project_id"
    )


def _job_change_is_allowed(same: str) -> str:
    unchanged = " AND ".join(f"NEW.{column} {same} OLD.{column}" for column in FROZEN_JOB_COLUMNS)
    finished = _words(FINISHED)
    return (
        f"(OLD.status NOT IN {finished} AND (OLD.desired <> 'cancel' OR NEW.desired = 'cancel'))"
        f" OR (OLD.status = 'failed' AND NEW.status NOT IN {finished})"
        f" OR ({unchanged})"
    )


def _attempt_change_is_allowed() -> str:
    return (
        "OLD.outcome = 'running' AND NEW.step_id = OLD.step_id AND NEW.attempt = OLD.attempt"
        " AND NEW.worker_id = OLD.worker_id AND NEW.started_at = OLD.started_at"
    )


def _rules(dialect: str) -> list[tuple[str, str, str, str]]:
    """(table, event, what must hold, what the refusal says)."""
    same = "IS" if dialect == "sqlite" else "IS NOT DISTINCT FROM"
    return [
        ("steps", "UPDATE", _step_move_is_allowed(), "a step may not move so"),
        ("jobs", "UPDATE", _job_change_is_allowed(same), "a finished job does not change"),
        ("attempts", "UPDATE", _attempt_change_is_allowed(), "a finished attempt does not change"),
        ("attempts", "DELETE", "1 = 0", "attempts are never deleted"),
        ("events", "UPDATE", "1 = 0", "events do not change"),
        ("events", "DELETE", "1 = 0", "events are never deleted"),
    ]


def _guards(dialect: str) -> Iterator[str]:
    for table, event, allowed, refusal in _rules(dialect):
        name = f"guard_{table}_{event.lower()}"
        if dialect == "sqlite":
            yield (
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN NOT ({allowed})"
                f" BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
        else:
            row = "NEW" if event == "UPDATE" else "OLD"
            yield (
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF NOT ({allowed}) THEN"
                f" RAISE EXCEPTION '{refusal}' USING ERRCODE = 'check_violation'; END IF;"
                f" RETURN {row}; END $$"
            )
            yield (
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
            )


def _guard_drops(dialect: str) -> Iterator[str]:
    for table, event, _, _ in _rules(dialect):
        name = f"guard_{table}_{event.lower()}"
        if dialect == "sqlite":
            yield f"DROP TRIGGER {name}"
        else:
            yield f"DROP TRIGGER {name} ON {table}"
            yield f"DROP FUNCTION {name}()"
