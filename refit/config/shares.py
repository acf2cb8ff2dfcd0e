"""Exact shares of a number of rows: with binary fractions, 0.29 of 100 is a little less than 29."""

from __future__ import annotations

from fractions import Fraction


def share_of(share: float, count: float) -> Fraction:
    """The exact product of two decimal numbers; the caller rounds it.

    >>> import math
    >>> math.floor(share_of(0.29, 100)), math.floor(0.29 * 100)
    (29, 28)
    >>> math.ceil(share_of(1.1, 100)), math.ceil(1.1 * 100)
    (110, 111)
    """
    return Fraction(str(share)) * Fraction(str(count))
