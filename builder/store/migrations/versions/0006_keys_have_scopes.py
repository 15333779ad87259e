"""Keys have scopes and an end, and what is done with them is in an audit log

Keys from before may do everything, as they could: they get `admin`, which implies all other scopes, and no end.
"""

from alembic import op
import sqlalchemy as sa


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('api_keys') as table:
        table.add_column(sa.Column('scopes', sa.JSON(), nullable=False, server_default='["admin"]'))
        table.add_column(sa.Column('expires_at', sa.Float(), nullable=True))
        table.add_column(sa.Column('last_used_at', sa.Float(), nullable=True))
    with op.batch_alter_table('api_keys') as table:
        # A key that nobody gave a scope must not be an administrator's.
        table.alter_column('scopes', existing_type=sa.JSON(), existing_nullable=False, server_default=None)
    op.create_table(
        'audit',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('at', sa.Float(), nullable=False),
        sa.Column('key_id', sa.String(length=32), nullable=True),
        sa.Column('caller', sa.String(length=100), nullable=True),
        sa.Column('action', sa.String(length=200), nullable=False),
        sa.Column('subject', sa.String(length=200), nullable=False),
        sa.Column('status', sa.Integer(), nullable=False),
        sa.Column('request_id', sa.String(length=100), nullable=True),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index('ix_audit_caller', 'audit', ['caller', 'id'])
    if op.get_bind().dialect.name == 'sqlite':
        for verb in ('UPDATE', 'DELETE'):
            op.execute(
                f'CREATE TRIGGER audit_refuses_{verb.lower()} BEFORE {verb} ON audit '
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
    else:
        op.execute(
            'CREATE FUNCTION refuse_on_audit() RETURNS trigger LANGUAGE plpgsql AS '
            "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
        )
        op.execute(
            'CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_on_audit()'
        )


def downgrade() -> None:
    # Without scopes and ends every key may do everything for ever: those that might not are revoked.
    connection = op.get_bind()
    keys = sa.table(
        'api_keys', sa.column('id', sa.String), sa.column('scopes', sa.JSON), sa.column('expires_at', sa.Float),
        sa.column('created_at', sa.Float), sa.column('revoked_at', sa.Float),
    )
    for key in connection.execute(sa.select(keys).where(keys.c.revoked_at.is_(None))).all():
        if 'admin' not in key.scopes or key.expires_at is not None:
            ended = key.created_at if key.expires_at is None else key.expires_at
            connection.execute(sa.update(keys).where(keys.c.id == key.id).values(revoked_at=ended))
    op.drop_index('ix_audit_caller', 'audit')
    op.drop_table('audit')
    if connection.dialect.name != 'sqlite':
        op.execute('DROP FUNCTION refuse_on_audit()')
    with op.batch_alter_table('api_keys') as table:
        for column in ('last_used_at', 'expires_at', 'scopes'):
            table.drop_column(column)
