"""The gate: compares two models on the same rows and decides on promotion. Pure functions."""
