"""A typed client of the HTTP API: one method a route, problems as errors, live events that survive lost connections."""
