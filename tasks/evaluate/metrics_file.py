"""The content of `metrics.json`, which `dvc metrics` shows and compares."""

from __future__ import annotations

from refit.evaluation import interval_coverage, prequential
from refit.schemas.evaluation import Evaluation
from refit.schemas.interval_report import IntervalReport

__all__ = ["flat_metrics"]


def flat_metrics(evaluation: Evaluation) -> dict[str, float | int | bool | None]:
    """Return the metrics for `dvc metrics show` and `diff`, without timings: equal models show no difference."""
    measured, metric = evaluation.metrics["candidate"], evaluation.metric
    reduction = evaluation.error_reduction
    return {
        **{name: each.value for name, each in measured.items()},
        f"{metric}_lower": measured[metric].lower,
        f"{metric}_upper": measured[metric].upper,
        **dict(interval_coverage.flat(evaluation.detail("intervals", IntervalReport))),
        **dict(prequential.flat(evaluation.prequential)),
        **{f"gain_over_{other}": gains[metric].value for other, gains in evaluation.gains.items()},
        **{f"opponent_{each.name}_{metric}": each.score.value for each in evaluation.opponents},
        **{f"gain_over_opponent_{each.name}": each.gain.value for each in evaluation.opponents},
        **({} if reduction is None else {"error_reduction": reduction.value}),
        "test_rows": evaluation.test.rows,
        "promote": evaluation.decision.promote,
    }
