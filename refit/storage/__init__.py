"""Data stored between stages and runs: batches, snapshots, quarantine, feature definitions, the prediction log."""
