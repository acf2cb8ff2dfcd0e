"""The kinds of problem: what is predicted, and which rows train, validate and test."""
