"""A local Sigstore in one small process, for laptops, tests and air-gapped labs: `python -m builder.sandbox`."""
