"""Packages may come from archives beside Debian's: who makes one is part of what an index states"""

from alembic import op
import sqlalchemy as sa


revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('known_packages') as table:
        table.add_column(sa.Column('vendor', sa.String(length=31), nullable=False, server_default='debian'))


def downgrade() -> None:
    # Without the column they would pass for Debian's.
    op.execute(sa.text("DELETE FROM known_packages WHERE vendor <> 'debian'"))
    with op.batch_alter_table('known_packages') as table:
        table.drop_column('vendor')
