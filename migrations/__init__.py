"""Migrations of the database, for alembic. `app.db.migrate` runs them."""
