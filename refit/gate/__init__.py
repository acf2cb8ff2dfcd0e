"""The gate: the paired comparison of two models, and the decision that is made of it. Pure."""
