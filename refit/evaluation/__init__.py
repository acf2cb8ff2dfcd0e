"""What predictions are worth on rows that no model has seen. Pure."""
