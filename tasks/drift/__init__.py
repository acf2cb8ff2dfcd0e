"""Drift: how far recent rows are from what the champion was trained on, and whether that is more than usual."""
