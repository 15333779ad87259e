"""The dispatcher with points to be killed at, and less patience: a test has not the time."""

from __future__ import annotations

from builder.store import errands, outbox
from tests.end_to_end.faults import points
from workers import dispatcher, reaper

reaper.LOST_MESSAGE_SECONDS = 4.0
dispatcher.REAP_SECONDS = 0.5
dispatcher._SWEEP_SECONDS = 2.0
dispatcher._CHECKPOINT_SECONDS = 2.0
errands._FIRST_DELAY = 1.0
points.around(outbox, "due", "due")
points.around(outbox, "mark_sent", "mark")
points.around(dispatcher, "_send", "send")
points.around(errands, "mark_published", "errand")
points.around(dispatcher, "reap", "reap")

if __name__ == "__main__":
    dispatcher.main()
