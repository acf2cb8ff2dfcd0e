"""Rows without a label reach the learners that declare their use, in every fit those that were known by then."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from refit.config import parse
from refit.errors import UserError
from refit.files import artifacts
from refit.learners import Spec, make
from refit.problems import problem_of
from tasks.train import labelled_rows
from tasks.train.folds import Development, LabelledRows, development, newest
from tasks.train.trial import fit_rows
from tasks.train.warm import _newer
from tests.tasks.train.test_folds import RAW

KIND = "listening.py:Listening"
LISTENING = '''
"""Writes down which rows it is given: the values of `strength` name them."""

import json
from pathlib import Path

import numpy as np

from refit.learners import Declaration


class Listening:
    declaration = Declaration(tasks=("binary",), unlabelled="{unlabelled}", safe_format="json")

    def __init__(self, spec):
        self.spec = spec

    def fit(self, train, label, *, validation=None, iterations=None, progress=None, **others):
        extra = others["unlabelled"]["strength"].to_pylist() if others else None
        with Path(self.spec.params["log"]).open("a") as log:
            log.write(json.dumps({{"rows": len(label), "extra": extra}}) + "\\n")

    def predict(self, table):
        return 1 / (1 + np.exp(-np.nan_to_num(table["strength"].to_numpy())))

    def save(self, folder):
        (folder / "nothing.json").write_text("{{}}")

    @classmethod
    def load(cls, folder, spec):
        return cls(spec)
'''
EXTRA = 40  # rows without a label in each of the two windows


@pytest.fixture
def kept(project: Any) -> Any:
    """The project with rows without a label: `strength` 1000 and up in training, 2000 and up in validation."""
    table = project.table
    table = table.add_column(2, "prediction_time", table["event_time"])
    found = [table]
    for window, first in (("train", 1000), ("validation", 2000)):
        rows = project.rows(window).slice(0, EXTRA)
        rows = rows.add_column(2, "prediction_time", rows["event_time"])
        changed = {
            "id": [f"none {first + n}" for n in range(EXTRA)],
            "window": [f"{window} unlabelled"] * EXTRA,
            "label": pa.nulls(EXTRA, pa.int64()),
            "strength": np.arange(first, first + EXTRA, dtype=np.float64),
        }
        for name, values in changed.items():
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
        found.append(rows)
    project.write(pa.concat_tables(found))
    described = artifacts.read_json(project.folder / artifacts.FEATURE_SET)
    described["labels"]["unlabelled"] = 2 * EXTRA
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, described)
    return project


def fits_of(project: Any, unlabelled: str, **changes: Any) -> list[dict[str, Any]]:
    """What the learner was given, fit by fit."""
    (project.folder / "listening.py").write_text(LISTENING.format(unlabelled=unlabelled))
    log = project.folder / "log.jsonl"
    log.unlink(missing_ok=True)
    learners = [{"name": "it", "kind": KIND, "params": {"log": str(log)}}]
    use = {"featurize__label__use_unlabelled": True}
    project.run(**{"train__learners": learners, "registry": {"trusted_types": [KIND]}, **use, **changes})
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_fit_that_is_compared_has_those_of_training_and_the_candidate_those_of_both_windows(kept: Any) -> None:
    train, validation = ([float(n) for n in range(first, first + EXTRA)] for first in (1000, 2000))
    fits = fits_of(kept, "used")
    assert [fit["rows"] for fit in fits] == [600, 60, 180, 750], "rows with a label, the size curve included"
    assert [fit["extra"] for fit in fits] == [train, train, train, train + validation]


def test_a_learner_that_does_not_declare_their_use_is_given_none(kept: Any) -> None:
    assert {fit["extra"] for fit in fits_of(kept, "ignored")} == {None}


def test_every_seed_of_an_average_is_given_them(kept: Any) -> None:
    fits = fits_of(kept, "used", train__average=True, train__seeds=2)
    assert [len(fit["extra"]) for fit in fits if fit["rows"] == 750] == [2 * EXTRA] * 2


def test_no_learner_that_needs_them_goes_without(project: Any) -> None:
    message = r"learns from rows without a label too, and none are kept: set featurize.label.use_unlabelled: true"
    with pytest.raises(UserError, match=message):
        fits_of(project, "needed", featurize__label__use_unlabelled=False)


def test_an_unchanged_project_trains_the_same_model_with_and_without_them(kept: Any, tmp_path: Path) -> None:
    with_them = kept.run()["model_digest"]
    rows = kept.table.filter(pc.is_valid(kept.table["label"])).drop_columns(["prediction_time"])
    kept.write(rows)
    assert kept.run()["model_digest"] == with_them, "its learners use none"


HOUR = np.timedelta64(1, "h").astype("timedelta64[us]")


def with_extra(**train: Any) -> Development:
    """300 labelled rows, one an hour, with as many without a label half an hour later; each third predicted later."""
    times = np.datetime64("2024-01-01", "us") + HOUR * np.arange(300)
    owner = [f"o{n % 40}" for n in range(300)]
    whole = LabelledRows(pa.table({"event_time": times, "x": np.arange(300.0), "owner": owner}), np.arange(300) % 2)
    later = times + HOUR // 2
    predicted = later + np.where(np.arange(300) % 3 == 0, 5, 0) * HOUR
    extra = pa.table({"event_time": later, "prediction_time": predicted, "owner": owner})
    params = parse({**RAW, "train": {**RAW["train"], **train}})
    return development(
        LabelledRows(whole.rows, whole.label, extra), whole.at(np.arange(0)), params, problem_of("binary")
    )


def folds(**changed: Any) -> dict[str, Any]:
    return {"cross_validation": {"gap_hours": 0.0, **changed}}


@pytest.mark.parametrize("kind", ["time", "rolling"])
def test_a_fold_in_time_has_the_rows_without_a_label_that_were_predicted_before_its_scored_rows(kind: str) -> None:
    asked = folds(kind=kind, folds=4) if kind == "time" else folds(kind=kind, folds=4, training_days=2)
    found = with_extra(**asked)
    extra = found.whole.unlabelled
    assert extra is not None
    times, predicted = extra["event_time"].to_numpy(), extra["prediction_time"].to_numpy()
    for fold in found.folds:
        edge = found.whole.rows["event_time"].to_numpy()[fold.scored].min()
        known = (times < edge) & (predicted <= edge)
        since = times >= edge - 48 * HOUR
        assert fold.unlabelled.tolist() == np.flatnonzero(known & since if kind == "rolling" else known).tolist()
        fitted, _ = found.windows(fold)
        assert fitted.unlabelled is not None
        assert fitted.unlabelled.equals(extra.take(fold.unlabelled))


def test_folds_by_chance_have_them_all_and_folds_of_groups_those_of_other_groups() -> None:
    found = with_extra(cross_validation={"kind": "kfold", "folds": 4})
    assert {len(fold.unlabelled) for fold in found.folds} == {300}
    found = with_extra(cross_validation={"kind": "group", "folds": 4, "group": "owner"})
    owner = np.array(found.whole.rows["owner"].to_pylist())
    for fold in found.folds:
        assert 0 < len(fold.unlabelled) < 300
        assert not set(owner[fold.unlabelled]) & set(owner[fold.scored])


def test_the_newest_rows_are_compared_on_by_a_fit_without_later_ones_and_the_rest_comes_with_them() -> None:
    found = with_extra()
    fold = newest(found.whole, 0.2, parse(RAW))
    fitted, scored = found.whole.fitted(fold), found.whole.rest(fold)
    assert fitted.unlabelled is not None
    assert scored.unlabelled is not None
    edge = scored.rows["event_time"].to_numpy().min()
    assert fitted.unlabelled["prediction_time"].to_numpy().max() <= edge
    assert len(fitted.unlabelled) + len(scored.unlabelled) == 300


def test_a_warm_start_has_those_that_are_new() -> None:
    whole = with_extra().whole
    since = datetime(2024, 1, 6, tzinfo=UTC)
    new = _newer(whole, whole.at(np.arange(0)), since)
    assert new.unlabelled is not None
    assert len(new.unlabelled) == len(new) == 300 - 5 * 24
    assert new.unlabelled["event_time"].to_numpy().min() >= np.datetime64("2024-01-06")


def test_the_table_is_read_with_those_rows_apart(kept: Any) -> None:
    from refit.runtime.context import Context
    from refit.schemas.feature_table import FeatureTable

    context = Context(kept.folder, parse(kept.params()))
    rows = labelled_rows(context, FeatureTable.read(context.path(artifacts.FEATURE_SET)), problem_of("binary"))
    assert rows.unlabelled is not None
    assert (len(rows), len(rows.unlabelled)) == (900, 2 * EXTRA)
    assert rows.named("test").unlabelled is not None
    assert [len(rows.named(name).unlabelled) for name in ("train", "validation", "test")] == [EXTRA, EXTRA, 0]
    assert "prediction_time" in rows.rows.column_names, "no fold may learn labels of after its predictions"


def test_a_fit_of_rows_alone_is_as_it_was() -> None:
    rows = LabelledRows(pa.table({"x": np.arange(40.0)}), np.arange(40) % 2)
    learner = make(Spec("it", "sklearn.linear_model.LogisticRegression", ("x",)))
    fit_rows(learner, rows)
    assert len(learner.predict(rows.rows)) == 40
