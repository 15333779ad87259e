"""Builds belong to the trace that they were asked for in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("builds", sa.Column("trace", sa.String(32), nullable=True))


def downgrade() -> None:
    op.drop_column("builds", "trace")
