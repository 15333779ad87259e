"""Scanning: Trivy on a staged digest, its findings and bills of materials, and the database they rest on."""
