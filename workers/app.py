"""The Celery application. Celery delivers; the database knows.

A message carries a build's id and nothing else. Whoever gets it claims the build in the database; a message that comes
twice, late or not at all changes nothing but time, so early acknowledgement is right, and no result is ever stored.
"""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from builder.settings import load_settings

QUEUES = ("build", "resolve", "scan", "release", "rebuild", "compare")


def make_app() -> Celery:
    app = Celery("goldsmith", broker=load_settings().redis_url.get_secret_value())
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_routes={f"goldsmith.{name}": {"queue": name} for name in QUEUES},
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,  # a build that waits behind another in one worker could run in a free one
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_keepalive": True, "health_check_interval": 15},
        worker_send_task_events=False,
        # Far above any stage's own limits: what still runs then hangs, and a new process takes its place.
        task_time_limit=2 * load_settings().build_seconds + 3600,
        worker_hijack_root_logger=False,
    )
    return app


app = make_app()
