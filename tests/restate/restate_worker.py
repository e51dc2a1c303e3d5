"""A process that executes runs for a Restate server: `restate_worker.py PORT STAYS`."""

import sys
from datetime import timedelta

from carried import WORKFLOWS
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from plait.durable.restate import app, serve


def announced(address):
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # After none, a run is replayed at each of its waits.
    stays = timedelta(seconds=float(sys.argv[2]))
    if not stays:
        # One of the two is observed.
        trace.set_tracer_provider(TracerProvider())
    application = app(WORKFLOWS, inactivity_timeout=stays)
    serve(application, port=int(sys.argv[1]), announce=announced)
