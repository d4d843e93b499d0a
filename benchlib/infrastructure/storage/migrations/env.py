"""Alembic's way in: migrate over the connection that `open_store` holds."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
