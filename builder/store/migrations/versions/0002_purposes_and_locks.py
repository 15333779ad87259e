"""Builds have a purpose, a lock and what was asked of them; releases a key; packages that a signed index stated are known"""

import json

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
    op.create_table(
        'known_packages',
        sa.Column('sha256', sa.String(length=64), nullable=False),
        sa.Column('name', sa.String(length=200), nullable=False),
        sa.Column('version', sa.String(length=200), nullable=False),
        sa.Column('architecture', sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint('sha256'),
    )
    _complete_evidence()


def _complete_evidence() -> None:
    """What was built before kept no materials, and its lock said less: give it the form that is read now."""
    builds = sa.table('builds', sa.column('id', sa.String), sa.column('recipe', sa.Text), sa.column('evidence', sa.JSON))
    connection = op.get_bind()
    for build_id, recipe, evidence in connection.execute(sa.select(builds)).all():
        if 'build' not in evidence:
            continue
        spec, built = json.loads(recipe)['spec'], dict(evidence['build'])
        lock = {name: value for name, value in built['lock'].items() if name != 'recipe_digest'}
        lock['requested'] = {'base': spec['base'], 'packages': spec.get('packages', [])}
        missing = {'lock_digest': '', 'lock_given': False, 'build_key': '', 'materials_digest': ''}
        whole = {**evidence, 'build': {**built, **missing, 'lock': lock}}
        connection.execute(sa.update(builds).where(builds.c.id == build_id).values(evidence=whole))


def downgrade() -> None:
    op.drop_table('known_packages')
    op.drop_index('ix_releases_build_key', 'releases')
    op.drop_column('releases', 'build_key')
    op.drop_index('ix_builds_subject', 'builds')
    for column in ('subject', 'options', 'lock', 'purpose'):
        op.drop_column('builds', column)
