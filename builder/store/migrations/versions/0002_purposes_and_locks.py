"""Builds have a purpose, a lock and what was asked of them; releases the key of all that decided them"""

from alembic import op
import sqlalchemy as sa


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('builds', sa.Column('purpose', sa.String(length=10), nullable=False, server_default='release'))
    op.add_column('builds', sa.Column('lock', sa.Text(), nullable=True))
    op.add_column('builds', sa.Column('options', sa.JSON(), nullable=False, server_default='{}'))
    op.add_column('builds', sa.Column('subject', sa.String(length=71), nullable=True))
    op.create_index('ix_builds_subject', 'builds', ['subject'])
    op.add_column('releases', sa.Column('build_key', sa.String(length=71), nullable=True))
    op.create_index('ix_releases_build_key', 'releases', ['build_key'])


def downgrade() -> None:
    op.drop_index('ix_releases_build_key', 'releases')
    op.drop_column('releases', 'build_key')
    op.drop_index('ix_builds_subject', 'builds')
    for column in ('subject', 'options', 'lock', 'purpose'):
        op.drop_column('builds', column)
