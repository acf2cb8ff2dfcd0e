"""What every step runs in: its project, lock, DVC, code digests, provenance, progress and terminal."""
