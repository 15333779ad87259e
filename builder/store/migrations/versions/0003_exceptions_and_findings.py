"""Exceptions in signed documents; findings in released images, as they are scanned again; errands beside the builds"""

from alembic import op
import sqlalchemy as sa


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'errands',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('kind', sa.String(length=10), nullable=False),
        sa.Column('subject', sa.String(length=71), nullable=False),
        sa.Column('body', sa.Text(), nullable=True),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('due_at', sa.Float(), nullable=False),
        sa.Column('published_at', sa.Float(), nullable=True),
        sa.Column('tries', sa.Integer(), nullable=False),
        sa.Column('done_at', sa.Float(), nullable=True),
        sa.Column('problem', sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index('ix_errands_due', 'errands', ['done_at', 'due_at'])
    op.create_table(
        'vex_documents',
        sa.Column('id', sa.String(length=26), nullable=False),
        sa.Column('state', sa.String(length=10), nullable=False),
        sa.Column('scope', sa.Text(), nullable=False),
        sa.Column('document_digest', sa.String(length=71), sa.ForeignKey('blobs.digest'), nullable=False),
        sa.Column('bundle_digest', sa.String(length=71), sa.ForeignKey('blobs.digest'), nullable=True),
        sa.Column('requester', sa.String(length=100), nullable=False),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('signed_at', sa.Float(), nullable=True),
        sa.Column('problem', sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_table(
        'exceptions',
        sa.Column('id', sa.String(length=26), nullable=False),
        sa.Column('document_id', sa.String(length=26), sa.ForeignKey('vex_documents.id'), nullable=False),
        sa.Column('vulnerability', sa.String(length=64), nullable=False),
        sa.Column('expires_at', sa.Float(), nullable=False),
        sa.Column('revoked_at', sa.Float(), nullable=True),
        sa.Column('revoked_by', sa.String(length=100), nullable=True),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index('ix_exceptions_document_id', 'exceptions', ['document_id'])
    op.create_index('ix_exceptions_vulnerability', 'exceptions', ['vulnerability'])
    op.create_table(
        'findings',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('image_digest', sa.String(length=71), nullable=False),
        sa.Column('recipe_name', sa.String(length=63), nullable=False),
        sa.Column('vulnerability', sa.String(length=100), nullable=False),
        sa.Column('package', sa.String(length=255), nullable=False),
        sa.Column('installed', sa.String(length=255), nullable=False),
        sa.Column('fixed', sa.String(length=255), nullable=True),
        sa.Column('severity', sa.String(length=10), nullable=False),
        sa.Column('purl', sa.Text(), nullable=True),
        sa.Column('first_seen', sa.Float(), nullable=False),
        sa.Column('last_seen', sa.Float(), nullable=False),
        sa.Column('gone_at', sa.Float(), nullable=True),
        sa.Column('database_digest', sa.String(length=71), nullable=False),
        sa.Column('above_policy', sa.Boolean(), nullable=False),
        sa.Column('since_release', sa.Boolean(), nullable=False),
        sa.Column('exception', sa.String(length=26), nullable=True),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('image_digest', 'vulnerability', 'package', 'installed'),
    )
    op.create_index('ix_findings_recipe', 'findings', ['recipe_name'])
    op.create_index('ix_findings_new', 'findings', ['since_release', 'above_policy'])
    op.create_table(
        'rescans',
        sa.Column('image_digest', sa.String(length=71), nullable=False),
        sa.Column('scanned_at', sa.Float(), nullable=True),
        sa.Column('database_digest', sa.String(length=71), nullable=True),
        sa.Column('judged_by', sa.String(length=71), nullable=True),
        sa.Column('passed', sa.Boolean(), nullable=True),
        sa.Column('problem', sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint('image_digest'),
    )


def downgrade() -> None:
    for table in ('rescans', 'findings', 'exceptions', 'vex_documents', 'errands'):
        op.drop_table(table)
