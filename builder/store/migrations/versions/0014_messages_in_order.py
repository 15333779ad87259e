"""Messages have an order and stay until they are taken; leases have a length, and retries a reason"""

import sqlalchemy as sa
from alembic import op


revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('builds') as table:
        table.add_column(sa.Column('lease_seconds', sa.Float(), nullable=True))
        table.add_column(sa.Column('retries', sa.JSON(), nullable=False, server_default='[]'))
    with op.batch_alter_table('outbox') as table:
        table.add_column(sa.Column('sort', sa.String(length=8), nullable=False, server_default='go-on'))
        table.add_column(sa.Column('rank', sa.Integer(), nullable=False, server_default='1'))
        table.add_column(sa.Column('requester', sa.String(length=100), nullable=False, server_default=''))
    # Every ready build gets its message anew from the dispatcher, with all that is new in it.
    op.execute('DELETE FROM outbox')
    op.create_index('ix_outbox_next', 'outbox', ['queue', 'published_at', 'rank', 'build_id'])
    op.create_index('ix_outbox_build_id', 'outbox', ['build_id'])


def downgrade() -> None:
    # The older version reminds of every message that it misses.
    op.execute('DELETE FROM outbox')
    op.drop_index('ix_outbox_build_id', 'outbox')
    op.drop_index('ix_outbox_next', 'outbox')
    with op.batch_alter_table('outbox') as table:
        table.drop_column('requester')
        table.drop_column('rank')
        table.drop_column('sort')
    # Not in a batch: that makes the table anew, and drops one that others refer to.
    op.drop_column('builds', 'retries')
    op.drop_column('builds', 'lease_seconds')
