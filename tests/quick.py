"""Of cases that go one way through the code, a few run in CI, and all of them in `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def quick(cases: Iterable[Any], *few: int) -> list[Any]:
    """Cases for `parametrize`: those at these places (the first, if none is named) stay quick, all others are slow.

    A case that is a tuple has a value for each name, as in `parametrize`.
    """
    marked = []
    for place, case in enumerate(cases):
        if place in (few or (0,)):
            marked.append(case)
        elif hasattr(case, "marks"):
            marked.append(pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow]))
        else:
            values = case if isinstance(case, tuple) else (case,)
            marked.append(pytest.param(*values, marks=pytest.mark.slow))
    return marked
