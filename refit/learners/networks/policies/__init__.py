"""Policies: what a reinforcement problem's models are, trained by stable-baselines3 and played without it."""
