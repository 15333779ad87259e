"""The database: the one truth about builds, releases and records. SQLAlchemy 2, SQLite or PostgreSQL."""
