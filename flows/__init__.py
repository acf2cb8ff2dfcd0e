"""When, and in what order: Prefect flows, and the commands that start them."""

import os

# Set before Prefect is imported: `refit up` takes a run for dead after 90 s of silence; Prefect itself waits 180 s.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
