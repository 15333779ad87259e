"""`goldsmith`, the command line: a client of the API, and the verifier that does not need to believe it."""
