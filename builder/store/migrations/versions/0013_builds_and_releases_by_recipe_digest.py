"""Builds and releases are found by their recipe's digest, as each request for a build does, however many there are"""

from alembic import op


revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_builds_recipe_digest', 'builds', ['recipe_digest', 'created_at'])
    op.create_index('ix_releases_recipe_digest', 'releases', ['recipe_digest', 'released_at'])


def downgrade() -> None:
    op.drop_index('ix_releases_recipe_digest', 'releases')
    op.drop_index('ix_builds_recipe_digest', 'builds')
