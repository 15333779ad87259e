"""A build says who asked for it beyond the name, and a key may be bound to recipes"""

import time

from alembic import op
import sqlalchemy as sa


revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('api_keys') as table:
        table.add_column(sa.Column('recipes', sa.JSON(), nullable=True))
    with op.batch_alter_table('builds') as table:
        table.add_column(sa.Column('identity', sa.JSON(), nullable=True))


def downgrade() -> None:
    # A key that is bound to some recipes must not come to build any.
    keys = sa.table(
        'api_keys', sa.column('id', sa.String), sa.column('recipes', sa.JSON), sa.column('revoked_at', sa.Float)
    )
    connection = op.get_bind()
    for key in connection.execute(sa.select(keys).where(keys.c.revoked_at.is_(None))).all():
        if key.recipes is not None:
            connection.execute(sa.update(keys).where(keys.c.id == key.id).values(revoked_at=time.time()))
    # Not in a batch: that makes the table anew, and drops one that others refer to.
    op.drop_column('builds', 'identity')
    with op.batch_alter_table('api_keys') as table:
        table.drop_column('recipes')
