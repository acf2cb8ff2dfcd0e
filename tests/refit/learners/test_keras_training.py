"""The training of Keras models: what is predicted at once, killed fits that go on, averaged weights, divergence."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import noted, run_until_killed
from safetensors import safe_open
from safetensors.torch import save_file

from refit.errors import UserError
from refit.learners import make
from refit.learners.conformance.sample import sample
from refit.learners.networks.keras.model import KerasModel
from refit.learners.networks.surroundings import EpochReport, checkpoints_in, reporting_to
from tests.refit.learners.test_keras import SOURCE, has_keras, spec_of


@pytest.mark.slow
@has_keras
def test_epochs_are_reported_and_the_process_keeps_its_random_state(train_rows: Any, seen_rows: Any) -> None:
    reports: list[EpochReport] = []
    make(spec_of(epochs=1)).fit(train_rows.table, train_rows.label)  # importing Keras draws a number
    random.seed(5)
    np.random.seed(5)
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    with reporting_to(reports.append):
        make(spec_of(epochs=3)).fit(train_rows.table, train_rows.label, validation=(seen_rows.table, seen_rows.label))
    assert [(each.epoch, each.epochs) for each in reports] == [(1, 3), (2, 3), (3, 3)]
    assert reports[-1].loss < reports[0].loss
    assert reports[0].learning_rate == pytest.approx(0.01)
    assert reports[0].validation is not None
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)


@has_keras
@pytest.mark.parametrize(("batch_rows", "most"), [(40, 40), (4096, 512)])
def test_no_more_rows_are_predicted_at_once_than_a_training_computes(batch_rows: int, most: int) -> None:
    rows, learner, sizes = sample("binary", 720, 1), make(spec_of(batch_rows=batch_rows, epochs=1)), list[int]()
    learner.fit(rows.table, rows.label)
    assert isinstance(learner, KerasModel)
    at_once = learner._model.predict_on_batch

    def counted(given: Any) -> Any:
        sizes.append(len(given["numbers"]))
        return at_once(given)

    learner._model.predict_on_batch = counted
    predicted = learner.predict(rows.table)
    assert (max(sizes), sum(sizes)) == (most, 720)
    np.testing.assert_array_equal(predicted[:most], learner.predict(rows.table.slice(0, most)))


def killed_or_not(folder: Path | None, *, kill: bool = False, source: str = SOURCE) -> tuple[Any, list[int]]:
    """A learner and the epochs that were run for it, with checkpoints in a folder."""
    epochs: list[int] = []
    rows, seen, learner = sample("binary", 150, 1), sample("binary", 80, 2), make(spec_of(epochs=4, source=source))
    with reporting_to(noted(epochs, killed_after=2 if kill else None)):
        if folder is None:
            learner.fit(rows.table, rows.label, validation=(seen.table, seen.label))
        else:
            with checkpoints_in(folder, every_seconds=0):
                learner.fit(rows.table, rows.label, validation=(seen.table, seen.label))
    return learner, epochs


DRAWS = SOURCE.replace(
    "hidden = keras",
    "together = keras.layers.BatchNormalization()(Noise()(together))\n    hidden = keras",
).replace("Adam(0.01)", "Adam(keras.optimizers.schedules.CosineDecay(0.02, 40), use_ema=True, ema_momentum=0.9)")
DRAWS += """
class Noise(keras.Layer):
    def call(self, rows, training=False):
        return rows + 0.1 * keras.random.normal(keras.ops.shape(rows)) if training else rows
"""


@pytest.mark.slow
@has_keras
@pytest.mark.parametrize("source", [SOURCE, DRAWS], ids=["usual", "draws"])
def test_a_killed_fit_ends_with_the_same_bits_and_repeats_no_complete_epoch(source: str, tmp_path: Path) -> None:
    """Also one whose optimizer has a schedule and averages, and whose layers keep statistics and draw."""
    module = "tests.refit.learners.test_keras_training"
    name = "SOURCE" if source == SOURCE else "DRAWS"
    call = f"killed_or_not(Path({str(tmp_path)!r}), kill=True, source={name})"
    run_until_killed(module, f"killed_or_not, {name}", call)
    again, epochs = killed_or_not(tmp_path, source=source)
    assert epochs == [3, 4]
    assert again.digest() == killed_or_not(None, source=source)[0].digest()


@pytest.mark.slow
@has_keras
def test_a_checkpoint_of_another_optimizer_is_left_alone(train_rows: Any, tmp_path: Path) -> None:
    """A package may change what an optimizer keeps; nothing is taken over then."""
    whole = make(spec_of())
    whole.fit(train_rows.table, train_rows.label)
    said: list[str] = []

    def dies(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), checkpoints_in(tmp_path, every_seconds=0), reporting_to(dies):
        make(spec_of()).fit(train_rows.table, train_rows.label)
    (path,) = tmp_path.iterdir()
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: each for name, each in tensors.items() if name != "optimizer/3"}, path, metadata)
    again = make(spec_of())
    with checkpoints_in(tmp_path, every_seconds=0):
        again.fit(train_rows.table, train_rows.label, progress=lambda what, *_: said.append(what))
    assert any("cannot be used" in what and what.endswith("it starts again") for what in said)
    assert again.digest() == whole.digest()


@has_keras
def test_an_optimizer_that_averages_weights_predicts_with_the_average(train_rows: Any, seen_rows: Any) -> None:
    """As `fit` of Keras ends; an average of which the last steps are nothing is the model before them."""
    source = SOURCE.replace("Adam(0.01)", "Adam(0.01, use_ema=True, ema_momentum={momentum})")
    first, frozen, latest = (
        make(spec_of(source=source.replace("{momentum}", momentum), batch_rows=len(train_rows), epochs=epochs))
        for momentum, epochs in (("0.0", 1), ("1.0", 4), ("0.0", 4))
    )
    for each in (first, frozen, latest):
        each.fit(train_rows.table, train_rows.label)
    np.testing.assert_array_equal(frozen.predict(seen_rows.table), first.predict(seen_rows.table))
    assert not np.array_equal(latest.predict(seen_rows.table), first.predict(seen_rows.table))


@has_keras
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_model_that_is_not_finite_after_the_last_step_is_refused(task: str) -> None:
    """Its loss is that before the step."""
    rows, source = sample(task, 60, 1), SOURCE.replace("Adam(0.01)", "SGD(1e38)")
    learner = make(spec_of(task, source=source, epochs=1, batch_rows=60))
    with pytest.raises(UserError, match=r"'it' predicts numbers that are not finite, .* lower the learning rate of it"):
        learner.fit(rows.table, rows.label)
