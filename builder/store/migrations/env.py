"""Alembic's entry: the connection comes from `Database.migrate`."""

from alembic import context

from builder.store import callers, idempotency, webhooks  # noqa: F401
from builder.store.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
