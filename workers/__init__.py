"""Celery workers: one thin module per queue, over the domain in `builder`."""
