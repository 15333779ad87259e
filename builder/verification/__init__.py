"""Verifying an image, as a library: evidence from anywhere, whom to trust, what to expect; every check told.

`verify_image(evidence, trust, expected)` in `image` is all of it. Evidence is an archive (`archive`), or whatever has
the few methods of `evidence.Evidence`; what is expected comes of a policy (`policy`) or is made by hand (`expected`).
"""
