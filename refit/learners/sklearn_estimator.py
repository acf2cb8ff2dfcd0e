"""Any scikit-learn-compatible estimator as a learner: stored by skops, as plain scikit-learn objects."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.errors import RefitError, UserError, first_line
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, continued, project_files, safe, sparse_rows, spill, texts
from refit.learners.blas import one_blas_thread
from refit.learners.class_weights import class_weights, row_weights
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    continuing,
    describe,
    library_errors,
    require_same_arguments,
)
from refit.learners.encoding import MAX_CATEGORIES, Encoding
from refit.learners.imports import build
from refit.learners.newest import newest_of
from refit.learners.sklearn_private import prepared_in_parts, truncate
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import EncodedLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

WEIGHTS = "model.skops"
PATIENCE = 20  # iterations without a better validation score before boosting stops
CURVE_POINTS = 60

VERBS = {"binary": "predict_proba", "multiclass": "predict_proba", "regression": "predict"}
STEPS = {"predict_proba": "classify", "predict": "regress"}
SCORING: dict[str, dict[str, str]] = {  # scikit-learn's scorers for early stopping; "loss" for all other metrics
    "binary": {
        "roc_auc": "roc_auc",
        "average_precision": "average_precision",
        "brier": "neg_brier_score",
    },
    "multiclass": {},
    "regression": {
        "mae": "neg_mean_absolute_error",
        "rmse": "neg_root_mean_squared_error",
        "mape": "neg_mean_absolute_percentage_error",
        "pinball": "neg_mean_absolute_error",  # twice the pinball loss of the median
        "r2": "r2",
    },
}


class SklearnEstimator:
    """Wraps one estimator with an encoding that suits it.

    Estimators that accept NaN get category codes and NaN (HistGradientBoosting with the codes declared as categories).
    All others get one-hot categories, and numbers of unit scale with the mean for missing values and an indicator.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self.spec = spec
        self.threshold = 0.5
        self._estimator = build(spec.kind, spec.params, seed=spec.seed, where=where, task=spec.task, source=spec.source)
        self._encoding = Encoding((), {})
        self._model: Any = None

    @property
    def declaration(self) -> Declaration:
        from sklearn.base import is_classifier

        tasks = ("binary", "multiclass") if is_classifier(self._estimator) else ("regression",)
        return Declaration(
            tasks, warm_start=not self.spec.text and continued.can_go_on(self._estimator), safe_format="skops"
        )

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        from sklearn.base import clone

        check_labels(label, self.spec)
        estimator = clone(self._estimator)
        limit = min(getattr(estimator, "max_bins", MAX_CATEGORIES), MAX_CATEGORIES)
        self._encoding = Encoding.learn(train, self.spec.coded, self.spec.categorical, limit, self.spec.arrays)
        if iterations is not None:
            estimator.set_params(**{_iterations_argument(estimator): iterations})
        watched = _watched(estimator, self.spec.name, progress)
        with _warnings_into([]) as messages, watched, one_blas_thread(), library_errors(self.spec):
            rows, encoder = self._encoded(train, estimator)
            report = self._fit(estimator, encoder, rows, train, label, validation)
        return FitReport(report.iterations or iterations, report.curve, tuple(dict.fromkeys(messages)))

    def resume(
        self,
        before: Learner,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        assert isinstance(before, SklearnEstimator)
        if self.spec.text:
            raise UserError("train.warm_start: champion: learners of texts cannot go on; set train.warm_start: null")
        most = continued.most_steps(before._model)
        steps = most if iterations is None else iterations
        check_labels(label, self.spec)
        require_same_arguments(self.spec, before.spec, bounds=("max_iter", "n_estimators"))
        every_label = label if validation is None else np.concatenate([label, validation[1]])
        continued.require_known_classes(before._model, every_label, self.spec)
        progress(f"going on with {self.spec.name}")
        self._encoding = before._encoding
        self.spec = continuing(self.spec, before.spec)
        matrix = self._encoding.matrix(train)
        row_sets = [self._encoding.matrix(validation[0]), matrix] if validation else []
        curve, best = [], -np.inf
        weights = class_weights(getattr(before._model, "class_weight", None), label)
        score = partial(self.spec.stopping_score, weights=weights)
        stages = continued.stages(before._model, matrix, label, steps, row_sets, VERBS[self.spec.task])
        with one_blas_thread(), library_errors(self.spec):
            for step, (model, predicted) in enumerate(stages):
                progress(f"going on with {self.spec.name}", step, steps)
                if validation is None:
                    self._model, taken = model, step
                    continue
                p_seen, p_train = (self._shaped(each, before._model) for each in predicted)
                curve.append(CurvePoint(step, score(label, p_train), score(validation[1], p_seen)))
                if (gain := self.spec.stopping_metric.gain(curve[-1].validation, curve[0].validation)) > best:
                    self._model, taken, best = model, step, gain
        return FitReport(taken, tuple(curve))

    def _encoded(self, train: pa.Table, estimator: Any) -> tuple[Any, Any]:
        """Encode the training rows; return them and the fitted transformer, None if the coded matrix is used as is."""
        from sklearn.utils import get_tags

        matrix = self._encoding.matrix(train)
        tags = get_tags(estimator).input_tags
        if "categorical_features" in estimator.get_params():
            estimator.set_params(categorical_features=self._encoding.is_categorical)
        if tags.allow_nan:
            matrix[:, _empty_columns(matrix)] = 0.0  # boosting cannot bin an empty column
            return self._with_texts(matrix, train, estimator) if self.spec.text else (matrix, None)
        words = texts.branches(self.spec, train, sparse=tags.sparse)
        encoder = _dense_encoder(self._encoding, words, sparse=tags.sparse)
        if not words and tags.sparse and sparse_rows.too_large(self._encoding, len(matrix)):
            return sparse_rows.encoded(encoder, matrix)
        rows = encoder.fit_transform(self._given(matrix, train))
        texts.plain_within(encoder, self.spec)
        return rows, encoder

    def _with_texts(self, matrix: Any, train: pa.Table, estimator: Any) -> tuple[Any, Any]:
        """Append each text to the coded features as a few numbers; return the rows and the fitted transformer."""
        from sklearn.compose import ColumnTransformer

        coded = ("coded", "passthrough", list(self.spec.columns))
        encoder = ColumnTransformer([coded, *texts.branches(self.spec, train, sparse=False)], sparse_threshold=0)
        rows = encoder.fit_transform(texts.frame(self.spec, matrix, train))
        texts.plain_within(encoder, self.spec)
        if "categorical_features" in estimator.get_params():
            of_texts = np.zeros(rows.shape[1] - matrix.shape[1], dtype=bool)
            estimator.set_params(categorical_features=np.concatenate([self._encoding.is_categorical, of_texts]))
        return rows, encoder

    def _given(self, matrix: Any, table: pa.Table) -> Any:
        """The input of the model: the coded features, as a frame with the texts if there are any."""
        return texts.frame(self.spec, matrix, table) if self.spec.text else matrix

    def _fit(
        self,
        estimator: Any,
        encoder: Any,
        rows: Any,
        train: pa.Table,
        label: Labels,
        validation: tuple[pa.Table, Labels] | None,
    ) -> FitReport:
        """Fit an estimator; `rows` is `train` as it reads it."""
        from sklearn.pipeline import Pipeline

        verb = VERBS[self.spec.task]
        self._model = estimator if encoder is None else Pipeline([("encode", encoder), (STEPS[verb], estimator)])
        if validation is None or not hasattr(estimator, f"staged_{verb}"):
            with prepared_in_parts(estimator, rows):
                estimator.fit(rows, label)
            return FitReport()
        seen, seen_label = self._given(self._encoding.matrix(validation[0]), validation[0]), validation[1]
        if encoder is not None:
            seen = encoder.transform(seen)
        weights = class_weights(getattr(estimator, "class_weight", None), label)
        if stops_by_itself := "n_iter_no_change" in estimator.get_params() and "scoring" in estimator.get_params():
            original = {name: estimator.get_params()[name] for name in ("scoring", "n_iter_no_change", "tol")}
            stopping = self.spec.stopping_metric.name
            estimator.set_params(
                early_stopping=True,
                scoring="loss" if self.spec.quantile else SCORING[self.spec.task].get(stopping, "loss"),
                n_iter_no_change=PATIENCE,
                tol=0,
            )
            trained_class = np.isin(seen_label, label) if self.spec.classes else np.full(len(seen_label), True)
            seen_part = {"X_val": seen[trained_class], "y_val": seen_label[trained_class]}
            if weights is not None:
                seen_part["sample_weight_val"] = row_weights(weights, seen_part["y_val"])
            with prepared_in_parts(estimator, rows):
                estimator.fit(rows, label, **seen_part)
            estimator.set_params(early_stopping=False, **original)
        else:
            estimator.fit(rows, label)
        recent = newest_of(train, len(seen_label))
        score = partial(self.spec.stopping_score, weights=weights)
        curve, best = self._iteration_curve(estimator, (rows[recent], label[recent]), (seen, seen_label), score)
        estimator.set_params(**{_iterations_argument(estimator): best})
        if stops_by_itself:
            truncate(estimator, best)
        else:
            estimator.fit(rows, label)
        return FitReport(best, curve)

    def _iteration_curve(
        self,
        estimator: Any,
        training: tuple[Any, Labels],
        validation: tuple[Any, Labels],
        score: Callable[[Labels, Floats], float],
    ) -> tuple[tuple[CurvePoint, ...], int]:
        """Scores after every few iterations, and the first iteration with the best validation score."""
        (rows, label), (seen, seen_label) = training, validation
        gain, staged_predict = self.spec.stopping_metric.gain, getattr(estimator, f"staged_{VERBS[self.spec.task]}")
        on_validation = [score(seen_label, self._shaped(p, estimator)) for p in staged_predict(seen)]
        gains = [gain(value, on_validation[0]) for value in on_validation]
        best = int(np.argmax(gains)) + 1
        step = max(1, len(on_validation) // CURVE_POINTS)
        wanted = sorted({*range(1, len(on_validation) + 1, step), best, len(on_validation)})
        staged = enumerate(staged_predict(rows), start=1)
        on_training = {n: score(label, self._shaped(p, estimator)) for n, p in staged if n in wanted}
        return tuple(CurvePoint(n, on_training[n], on_validation[n - 1]) for n in wanted), best

    def predict(self, table: pa.Table) -> Floats:
        if self._model is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        if sparse_rows.too_large(self._encoding, table.num_rows) and table.num_rows > spill.PART:
            return np.concatenate([self.predict(table[part]) for part in spill.parts(table.num_rows)])
        matrix = self._encoding.matrix(table)
        if not len(matrix):
            return np.empty(self.spec.problem.shape(0))
        with one_blas_thread():
            try:
                raw = getattr(self._model, VERBS[self.spec.task])(self._given(matrix, table))
            except ValueError as error:
                raise UserError(
                    f"learner {self.spec.name!r} ({self.spec.kind}) could not predict: {first_line(error)}; "
                    "change its params, or disable it in train.learners"
                ) from error
            return self._shaped(raw, self._model)

    def _shaped(self, raw: Any, model: Any) -> Floats:
        """The estimator's output in the shape of the task; a class absent from its training has probability 0."""
        values: Floats = np.asarray(raw, dtype=np.float64)
        if VERBS[self.spec.task] == "predict":
            if values.ndim != 1:
                raise self._misshapen("predict", values, "one number for each row was expected")
            return values
        if not self.spec.classes:
            if values.ndim != 2 or values.shape[1] != 2:
                expected = "two columns were expected, the probabilities of 0 and of 1"
                raise self._misshapen("predict_proba", values, expected)
            return np.asarray(values[:, 1])
        if values.ndim != 2 or values.shape[1] != len(model.classes_):
            expected = f"{len(model.classes_)} columns were expected, a probability for each class"
            raise self._misshapen("predict_proba", values, expected)
        predicted = np.zeros(self.spec.problem.shape(len(values)))
        predicted[:, model.classes_] = values
        return predicted

    def _misshapen(self, verb: str, raw: Floats, expected: str) -> UserError:
        return UserError(
            f"learner {self.spec.name!r} ({self.spec.kind}): {verb} gave an array of shape {raw.shape}; {expected}: "
            "correct it, or disable it in train.learners"
        )

    def save(self, folder: Path) -> None:
        import sklearn

        safe.save_skops(self._model, folder / WEIGHTS)
        project_files.store_code(self.spec, folder)
        libraries = {"scikit-learn": sklearn.__version__}
        own = EncodedLearner(categories=self._encoding.categories, weights=WEIGHTS, libraries=libraries)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> SklearnEstimator:
        learner = cls.__new__(cls)  # `__init__` would check the params and build an estimator again
        learner.spec = spec
        learner.threshold = description.threshold
        learner._encoding = Encoding(spec.coded, description.own(EncodedLearner).categories, arrays=spec.arrays)
        learner._model = learner._estimator = safe.load_skops(folder / WEIGHTS, project_files.trusted(learner.spec))
        if not hasattr(learner._model, VERBS[learner.spec.task]):
            raise RefitError(f"{folder / WEIGHTS} holds no model that predicts; restore the folder, or train again")
        return learner

    def unsafe_reason(self) -> str | None:
        if self.spec.source and (reason := project_files.unsafe_reason(self.spec)):
            return reason
        return safe.unsafe_reason(self._model, project_files.trusted(self.spec))

    def digest(self) -> str:
        categories = self._encoding.to_dict()
        parts = {"features": list(self.spec.features), "categories": categories, "threshold": self.threshold.hex()}
        return digest({"kind": self.spec.kind, "model": canonical.digest(self._model), **parts})


def _dense_encoder(encoding: Encoding, words: list[Any], *, sparse: bool) -> Any:
    """A ColumnTransformer from category codes and numbers to columns without NaN."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    mean = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True, keep_empty_features=True, copy=False)
    numbers = Pipeline([("scale", StandardScaler(copy=False)), ("impute", mean)])  # 0 is the mean after scaling
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=sparse)
    indices = np.arange(len(encoding.origins))
    return ColumnTransformer(
        [
            ("numbers", numbers, indices[~encoding.is_categorical].tolist()),
            ("categories", categories, indices[encoding.is_categorical].tolist()),
            *words,
        ],
        sparse_threshold=1.0 if words and sparse else 0.3,
    )


def _empty_columns(matrix: Any) -> Any:
    """(columns,) whether all values of a column are missing."""
    empty = np.ones(matrix.shape[1], dtype=bool)
    for part in spill.parts(len(matrix)):
        empty &= np.isnan(matrix[part]).all(axis=0)
    return empty


def _iterations_argument(estimator: Any) -> str:
    return "n_estimators" if "n_estimators" in estimator.get_params() else "max_iter"


@contextmanager
def _watched(estimator: Any, name: str, progress: Progress) -> Iterator[None]:
    """Report the number of trees grown so far during one long call of scikit-learn."""
    done = threading.Event()
    total = estimator.get_params().get(_iterations_argument(estimator))

    def tell() -> None:
        while not done.wait(0.5):
            grown = len(getattr(estimator, "_predictors", ()))
            progress(f"fitting {name}", grown, total if grown else None)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _warnings_into(messages: list[str]) -> Iterator[list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    messages.extend(first_line(warning.message) for warning in caught)
