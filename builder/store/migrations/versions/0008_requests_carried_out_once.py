"""Requests are carried out once; builds have a priority, and know what they retry"""

from alembic import op
import sqlalchemy as sa


revision = '0008'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'idempotent_requests',
        sa.Column('caller', sa.String(length=100), nullable=False),
        sa.Column('key', sa.String(length=200), nullable=False),
        sa.Column('fingerprint', sa.String(length=71), nullable=False),
        sa.Column('token', sa.String(length=32), nullable=False),
        sa.Column('lease_until', sa.Float(), nullable=False),
        sa.Column('expires_at', sa.Float(), nullable=False),
        sa.Column('status', sa.Integer(), nullable=True),
        sa.Column('location', sa.String(length=200), nullable=True),
        sa.Column('body', sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint('caller', 'key'),
    )
    op.create_index('ix_idempotent_requests_expires_at', 'idempotent_requests', ['expires_at'])
    op.add_column('builds', sa.Column('priority', sa.String(length=6), nullable=False, server_default='normal'))
    op.add_column('builds', sa.Column('retry_of', sa.String(length=26), nullable=True))


def downgrade() -> None:
    for column in ('retry_of', 'priority'):
        op.drop_column('builds', column)
    op.drop_index('ix_idempotent_requests_expires_at', 'idempotent_requests')
    op.drop_table('idempotent_requests')
