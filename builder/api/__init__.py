"""The HTTP API: routes, who may call them, problems as RFC 9457 says, and live events."""
