"""Prefect flows: which steps run when and in what order, and the services that they need."""

import os

# Set before Prefect is imported: `refit up` marks a run as crashed after 90 s of silence; Prefect itself waits 180 s.
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
