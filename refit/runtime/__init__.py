"""The environment of every step: project context, lock, DVC, code digests, provenance and terminal."""
