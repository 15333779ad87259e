"""A client of OCI registries (distribution-spec 1.1): blobs, manifests, referrers, copies. All by digest."""
