"""Recipes: the strict model, YAML with line numbers in every error, the catalogue on disk, the editor's JSON schema."""
