"""what a project stores is added up from indices

Revision ID: 0020
Revises: 0019
Create Date: 2026-11-29 14:10:00
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLES = ("artifacts", "files", "upload_parts")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(op.f(f"ix_{table}_project_id_num_bytes"), table, ["project_id", "num_bytes"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(op.f(f"ix_{table}_project_id_num_bytes"), table_name=table)
