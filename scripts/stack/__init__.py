"""A whole Goldsmith on one machine, on loopback, with its state in one directory: for the quickstart and the tests."""
