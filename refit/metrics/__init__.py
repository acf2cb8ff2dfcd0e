"""What a metric is: its name, its direction and its range. Each problem names its own (`refit.problems`).

Formulas are in `refit.metrics.formulas`, which needs numpy; reading params needs only the names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["LIMITS", "Metric", "Span"]

Span = tuple[float, float]

SHARE: Span = (0.0, 1.0)
LOSS: Span = (0.0, math.inf)
CORRELATION: Span = (-1.0, 1.0)


@dataclass(frozen=True)
class Metric:
    """The properties of a metric, apart from its formula."""

    name: str
    words: str
    higher_is_better: bool
    span: Span = LOSS  # the range of its values
    comparable: bool = True  # False: it depends on a model's own threshold or bins, so models are not compared by it
    by_label: bool = False  # it judges by labels, in a problem that may have none
    in_label_units: bool = False  # then no default margin fits every project
    percent: bool = False  # shown in percent; files hold the share
    proper: str = ""  # the proper score of the same predictions, which iterations are chosen by; empty: itself
    undefined: str = ""  # when it is not finite, as an error says it

    @property
    def sign(self) -> float:
        """1 where higher is better, else -1."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def perfect(self) -> float:
        """The best value; infinite if there is none."""
        return self.span[1] if self.higher_is_better else self.span[0]

    def gain(self, new: float, old: float) -> float:
        """How much better `new` is than `old`, in units of the metric; positive is better.

        >>> Metric("roc_auc", "ROC AUC", True).gain(0.75, 0.5), Metric("log_loss", "log loss", False).gain(0.5, 0.25)
        (0.25, -0.25)
        """
        return self.sign * (new - old)


LIMITS = (  # of a model or a comparison, not of its predictions; the gate may demand a floor or a ceiling of them
    Metric("latency_ms", "latency in ms", False),
    Metric("model_mb", "model size in MB", False),
    Metric("cost_per_1000", "cost of 1,000 predictions", False),
    Metric("error_reduction", "error reduction", True, (-math.inf, 1.0)),
)
