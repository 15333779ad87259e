"""The Celery application. Celery delivers; the database knows.

A message carries a build's id and nothing else. Whoever gets it claims the build in the database; a message that comes
twice, late or not at all changes nothing but time. Each setting below follows from that, or says what else it is for.
"""

from __future__ import annotations

from celery import Celery, signals
from kombu import Queue

from builder.logs import configure_logs
from builder.settings import load_settings
from workers.pulse import give_pulse

QUEUES = ("build", "resolve", "scan", "release", "rebuild", "compare", "errands")

# A message that is out for so long without an acknowledgement comes again. Ours are acknowledged before they are
# worked on, so this ends no build twice; it is for one that a worker read and died with.
_VISIBILITY_SECONDS = 300
# Celery's processes grow with what passed through them; a new one takes a second.
_TASKS_PER_PROCESS = 200
# After the first signal a worker takes nothing more and goes on with what it has for so long; then its lease runs out
# and another worker begins it anew. Whoever stops a worker should wait longer than that before killing it.
_SHUTDOWN_SECONDS = 60.0


def make_app() -> Celery:
    settings = load_settings()
    app = Celery("goldsmith", broker=settings.redis_url.get_secret_value())
    app.conf.update(
        # States and results are the database's: there is no backend, and nothing that could disagree with it.
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(name) for name in QUEUES],
        task_routes={f"goldsmith.{name}": {"queue": name} for name in QUEUES},
        task_create_missing_queues=False,
        # Early: with late ones a build longer than the visibility timeout is delivered again and again, and one that
        # kills its process is rejected and delivered without an end. Leases and the reaper do it, and count.
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        # A build that waits behind another in one worker could run in a free one, and overtake nothing there.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_max_tasks_per_child=_TASKS_PER_PROCESS,
        worker_soft_shutdown_timeout=_SHUTDOWN_SECONDS,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a build does not need the broker
        # For ever: a worker that gave up would have to be started by hand when the broker is back.
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 15,
        },
        worker_send_task_events=False,
        # Far above any stage's own limits: what still runs then hangs, and a new process takes its place.
        task_time_limit=2 * settings.build_seconds + 3600,
        worker_hijack_root_logger=False,
    )
    if settings.log_format == "json":
        # Who answers this signal sets up logging instead of Celery.
        signals.setup_logging.connect(_json_logs)
    if settings.pulse_directory is not None:
        give_pulse(app, settings.pulse_directory)
    return app


def _json_logs(**_: object) -> None:
    configure_logs("json")


app = make_app()
