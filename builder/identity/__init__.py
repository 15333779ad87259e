"""Callers that show a token of an issuer the operator trusts: CI systems, above all."""
