"""What each kind of problem measures on test rows beyond its metrics: one file for each kind that has such a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refit.schemas.evaluation import Details, Facts

if TYPE_CHECKING:
    from refit.evaluation.holdout import Holdout
    from refit.evaluation.scored import Scored

__all__ = ["Measures", "measures_of"]


@dataclass(frozen=True)
class Measures:
    """How a kind of problem is measured; by default there is nothing to measure beyond its metrics."""

    details: Callable[[Holdout, Scored, float], Details] = lambda test, scored, confidence: Details()
    facts: Callable[[NDArray[Any], NDArray[np.float64]], Facts] = lambda labels, predicted: Facts()


def measures_of(name: str) -> Measures:
    """The measures of a kind of problem; the default ones for kinds that others have added."""
    if not (Path(__file__).parent / f"{name}.py").is_file():
        return Measures()
    measures: Measures = import_module(f"refit.evaluation.details.{name}").MEASURES
    return measures
