"""Neural networks: one readable loop, its losses, optimisers and schedules, and one file for each architecture."""
