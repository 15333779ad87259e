"""Webhooks have a table, and each notice a delivery that says what came of it

A notice that has still to be sent was for the webhook of the settings: it becomes a delivery of that one, whose address
the dispatcher writes down when it starts.
"""

import json
import time

from alembic import op
import sqlalchemy as sa


revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

CONFIGURED = 'configured'


def upgrade() -> None:
    webhooks = op.create_table(
        'webhooks',
        sa.Column('id', sa.String(length=26), nullable=False),
        sa.Column('url', sa.String(length=2000), nullable=False),
        sa.Column('events', sa.JSON(), nullable=False),
        sa.Column('secret', sa.String(length=100), nullable=True),
        sa.Column('description', sa.String(length=200), nullable=False),
        sa.Column('created_by', sa.String(length=400), nullable=False),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('ended_at', sa.Float(), nullable=True),
        sa.Column('ended', sa.String(length=10), nullable=True),
        sa.PrimaryKeyConstraint('id'),
    )
    deliveries = op.create_table(
        'webhook_deliveries',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('webhook_id', sa.String(length=26), nullable=False),
        sa.Column('message_id', sa.String(length=40), nullable=False),
        sa.Column('event', sa.String(length=40), nullable=False),
        sa.Column('body', sa.Text(), nullable=False),
        sa.Column('state', sa.String(length=10), nullable=False),
        sa.Column('tries', sa.Integer(), nullable=False),
        sa.Column('status', sa.Integer(), nullable=True),
        sa.Column('created_at', sa.Float(), nullable=False),
        sa.Column('tried_at', sa.Float(), nullable=True),
        sa.Column('problem', sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(['webhook_id'], ['webhooks.id']),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_index('ix_webhook_deliveries_webhook', 'webhook_deliveries', ['webhook_id', 'id'])
    connection = op.get_bind()
    errands = sa.table(
        'errands', sa.column('id', sa.Integer), sa.column('kind', sa.String), sa.column('subject', sa.String),
        sa.column('body', sa.Text), sa.column('done_at', sa.Float), sa.column('created_at', sa.Float),
    )
    waiting = sa.select(errands).where(errands.c.kind == 'notify', errands.c.done_at.is_(None))
    for number, one in enumerate(connection.execute(waiting).all(), 1):
        if number == 1:
            connection.execute(webhooks.insert().values(
                id=CONFIGURED, url='', events=['findings.risen'], description='of the settings', created_by='settings',
                created_at=time.time(),
            ))
        connection.execute(deliveries.insert().values(
            webhook_id=CONFIGURED, message_id=one.subject, event=json.loads(one.body)['type'], body=one.body,
            state='pending', tries=0, created_at=one.created_at,
        ))
        made = connection.execute(sa.select(sa.func.max(deliveries.c.id))).scalar()
        connection.execute(sa.update(errands).where(errands.c.id == one.id).values(subject=str(made), body=None))


def downgrade() -> None:
    connection = op.get_bind()
    errands = sa.table(
        'errands', sa.column('id', sa.Integer), sa.column('kind', sa.String), sa.column('subject', sa.String),
        sa.column('body', sa.Text), sa.column('done_at', sa.Float),
    )
    deliveries = sa.table(
        'webhook_deliveries', sa.column('id', sa.Integer), sa.column('webhook_id', sa.String),
        sa.column('message_id', sa.String), sa.column('body', sa.Text),
    )
    waiting = sa.select(errands.c.id, errands.c.subject).where(
        errands.c.kind == 'notify', errands.c.done_at.is_(None)
    )
    for one in connection.execute(waiting).all():
        found = connection.execute(sa.select(deliveries).where(deliveries.c.id == int(one.subject))).one()
        if found.webhook_id == CONFIGURED:
            kept = {'subject': found.message_id, 'body': found.body}
            connection.execute(sa.update(errands).where(errands.c.id == one.id).values(**kept))
        else:
            # There is no other webhook any more.
            connection.execute(sa.delete(errands).where(errands.c.id == one.id))
    op.drop_index('ix_webhook_deliveries_webhook', 'webhook_deliveries')
    op.drop_table('webhook_deliveries')
    op.drop_table('webhooks')
