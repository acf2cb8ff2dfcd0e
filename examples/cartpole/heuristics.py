"""A fixed rule for the pole: what a policy has to beat."""

from __future__ import annotations

from typing import Any


def with_the_pole(observation: Any) -> int:
    """Push the cart to the side that the pole leans and falls to."""
    _, _, angle, spin = observation
    return int(angle + spin > 0)
