"""Tracking, model versions, aliases and the ledger: the only package that imports mlflow, and only when it must."""
