"""files: what a check found in them, who is checking, and when they expire

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-25 05:00:00
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNCHECKED = "status = 'uploaded'"
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.add_column(sa.Column("facts", JSON, nullable=True))
        batch_op.add_column(sa.Column("check_ends_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.create_index(batch_op.f("ix_files_project_id_sha256"), ["project_id", "sha256"])
        batch_op.create_index(batch_op.f("ix_files_expires_at"), ["expires_at"])
        batch_op.create_index(
            "ix_files_unchecked",
            ["id"],
            sqlite_where=sa.text(UNCHECKED),
            postgresql_where=sa.text(UNCHECKED),
        )


def downgrade() -> None:
    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.drop_index("ix_files_unchecked")
        batch_op.drop_index(batch_op.f("ix_files_expires_at"))
        batch_op.drop_index(batch_op.f("ix_files_project_id_sha256"))
        for name in ("expires_at", "check_ends_at", "facts"):
            batch_op.drop_column(name)
