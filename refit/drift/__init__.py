"""Drift statistics and the decision to train again, from counts and scores alone. Pure."""
