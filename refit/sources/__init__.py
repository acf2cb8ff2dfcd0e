"""Finds and reads raw rows in files, packages, databases and queries, without guessing."""
