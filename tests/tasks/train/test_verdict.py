"""The verdict reads the scores as a person would."""

from __future__ import annotations

import pytest

from refit.schemas.training import SizeScores
from tasks.train.verdict import verdict

FLAT = (SizeScores(rows=100, training=0.8, validation=0.745), SizeScores(rows=1000, training=0.78, validation=0.75))
RISING = (SizeScores(rows=100, training=0.9, validation=0.65), SizeScores(rows=1000, training=0.78, validation=0.75))
FALLING = (SizeScores(rows=100, training=0.9, validation=0.80), SizeScores(rows=1000, training=0.78, validation=0.75))


@pytest.mark.parametrize(
    ("training", "validation", "said"),
    [
        (0.78, 0.75, "balanced: roc_auc .780 on training rows and .750 on validation rows"),
        (0.99, 0.65, "overfit: roc_auc .990 on training rows and .650 on validation rows; regularise more"),
        (0.99, 0.50, "overfit: roc_auc .990 on training rows and .500 on validation rows, no better than the baseline"),
        (0.505, 0.50, "underfit: roc_auc .505 on training rows and .500 on validation rows, no better than the"),
    ],
)
def test_training_and_validation_scores_give_the_verdict(training: float, validation: float, said: str) -> None:
    assert verdict("roc_auc", training=training, validation=validation, baseline=0.5, size_curve=FLAT).startswith(said)


def test_a_score_where_lower_is_better_is_read_that_way_round() -> None:
    sizes = (SizeScores(rows=1000, training=0.1, validation=0.55),)
    said = verdict("log_loss", training=0.1, validation=0.55, baseline=0.69, size_curve=sizes)
    assert said.startswith("overfit: log_loss .100 on training rows and .550")


def test_a_learner_still_improving_needs_more_iterations() -> None:
    said = verdict("roc_auc", training=0.76, validation=0.75, baseline=0.5, last_iteration_best=True, size_curve=FLAT)
    assert said.startswith("underfit: ")
    assert said.endswith("allow more iterations")


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (FLAT, "more rows would bring little"),
        (RISING, "more rows would help, with the last 900 it is 0.100 better"),
        (FALLING, "older rows hurt, without them it is 0.050 better: shorten featurize.windows.training"),
    ],
)
def test_the_size_curve_says_whether_more_rows_would_help(sizes: tuple[SizeScores, ...], said: str) -> None:
    assert verdict("roc_auc", training=0.78, validation=0.75, baseline=0.5, size_curve=sizes).endswith(said)


def test_without_a_baseline_the_verdict_asks_for_one() -> None:
    said = verdict("roc_auc", training=0.78, validation=0.75, baseline=None, size_curve=FLAT)
    assert said.endswith("add a baseline to train.learners to compare with")


def test_of_a_network_that_overfits_it_names_the_arguments_to_raise() -> None:
    sizes = [SizeScores(rows=rows, training=0.95, validation=0.65) for rows in (500, 1000)]
    text = verdict(
        "roc_auc", training=0.95, validation=0.65, baseline=0.5, size_curve=sizes, regularisers={"dropout": 0.1}
    )
    assert "; raise dropout (now 0.1), or make it smaller; more rows would bring little" in text
