"""A replay decides on drift as the watch does."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from driving import later_months

from refit.operations.replay.history import history
from refit.operations.replay.simulation import Parts, Simulator
from refit.runtime import run_file
from refit.runtime.context import Context


@pytest.mark.slow
@pytest.mark.parametrize("turned", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_decides_on_drift_as_the_watch_of_that_day_does(project: Path, turned: bool) -> None:
    from refit.operations.replay.drift_checks import Watch
    from tasks.drift import watch

    later_months(project, turned=turned)
    params = run_file.params_of(project)
    settings = {"retrain_on": ("performance", "input"), "multivariate_rows": 0}
    drift = params.drift.model_copy(update=settings)  # what a replay leaves out can lead to no training
    now = datetime(2026, 1, 1, tzinfo=UTC)
    context = Context(project=project, params=params.model_copy(update={"drift": drift}), now=lambda: now)
    told = watch.run(context, as_of="2024-11-25")
    trained, day = told.trained_as_of, datetime(2024, 11, 25, tzinfo=UTC)
    past = history(context, day, day)
    fit = Simulator(context, past, [], Parts()).fits.at(trained, None)
    replayed = Watch(context, past)
    gathered = replayed.gathered(fit, day, trained, [], drift)
    assert gathered.new_labelled == told.new_labelled
    assert list(gathered.performance) == [each.performance for each in told.windows]
    assert list(gathered.inputs) == [each.inputs for each in told.windows]
    found = replayed.decide(fit, day, trained, [], drift)
    assert found.verdict == told.verdict == ("retrain" if turned else told.verdict)
    assert found.reasons == told.reasons
    by_age = drift.model_copy(update={"retrain_on": ("schedule",)})
    assert "validation window of a retraining now" in replayed.decide(fit, now, trained, [], by_age).blocked[0]
