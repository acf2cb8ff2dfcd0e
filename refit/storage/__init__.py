"""What lies on disk between stages and runs: batches, snapshots, quarantine, definitions, the log of predictions."""
