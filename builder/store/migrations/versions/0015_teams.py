"""Callers have teams, whose builds share a limit"""

import sqlalchemy as sa
from alembic import op


revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None

_TABLES = ('api_keys', 'builds', 'outbox')


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column('team', sa.String(length=63), nullable=True))


def downgrade() -> None:
    # Not in a batch: that makes the table anew, and drops one that others refer to.
    for table in _TABLES:
        op.drop_column(table, 'team')
