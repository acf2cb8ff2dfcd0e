"""Base of the LightGBM and XGBoost learners: native categories and missing values, and early stopping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.config import nearest
from refit.config.train import Arguments
from refit.errors import RefitError, UserError, first_line
from refit.extras import install_extra
from refit.files.artifacts import digest, write_manifest
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    check_labels,
    could_not_fit,
    describe,
)
from refit.learners.encoding import Encoding
from refit.learners.newest import newest_of
from refit.learners.texts import DenseTexts
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import EncodedLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 20  # iterations without a better validation score before it stops
CURVE_POINTS = 30
ITERATIONS = 100  # default

# Arguments that are set elsewhere, with the reason for the error.
DECIDED = {
    "random_state": "it is train.seed",
    "seed": "it is train.seed",
    "early_stopping_rounds": "the validation window chooses the number of iterations",
    "early_stopping_round": "the validation window chooses the number of iterations",
    "eval_metric": "it is train.early_stopping_metric",
    "metric": "it is train.early_stopping_metric",
    "callbacks": "params hold texts and numbers alone",
    "enable_categorical": "the text features of the table are categories",
    "categorical_feature": "the text features of the table are categories",
    "feature_types": "the text features of the table are categories",
    "missing": "a gap in the table is missing",
    "num_class": "the classes are those of the label",
}


class NativeBoosting(ABC):
    """Trees of a boosting library, trained with its native interface and stored in its own format.

    With validation rows it stops `PATIENCE` iterations after the best score and keeps the trees up to the best: bit for
    bit the model with that many iterations. Kinds that drop or average trees (dart, rf) are fitted without a search.
    """

    library: ClassVar[str]
    error: ClassVar[str]  # the library's own exception
    weights: ClassVar[str]  # file name
    objectives: ClassVar[Mapping[str, str]]  # of the library, by task

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec, where)
        self._check(where)

    def _configure(self, spec: Spec, where: str) -> None:
        self.spec = spec
        self.threshold = 0.5
        self._library = _imported(self.library, spec.kind, where)
        self._error: type[Exception] = attrgetter(self.error)(self._library)
        names = self._main_names()
        self._arguments: Arguments = {names.get(name, name): value for name, value in spec.params.items()}
        self._encoding = Encoding((), {})
        self._booster: Any = None
        self._weights: Floats | None = None  # of classes, during a fit

    @property
    def declaration(self) -> Declaration:
        tasks = ("regression",) if self.spec.kind.endswith("Regressor") else ("binary", "multiclass")
        return Declaration(tasks, safe_format=self.weights)

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        encoding = Encoding.learn(train, self.spec.coded, self.spec.categorical, arrays=self.spec.arrays)
        self._encoding = replace(encoding, texts=DenseTexts.learn(self.spec, train))
        rows = self._encoding.matrix(train)
        max_iterations = iterations or int(self._arguments.get("n_estimators") or ITERATIONS)
        progress(f"fitting {self.spec.name}", 0, max_iterations)
        self._weights = self._class_weights(label)
        search = validation is not None and self._keeps_its_trees()
        seen = (self._encoding.matrix(validation[0]), validation[1]) if validation is not None and search else None
        try:
            trained, scores = self._train(rows, label, max_iterations, seen, progress)
        except (ValueError, TypeError, self._error) as error:
            message = " ".join(str(error).splitlines()[0:1]).split("] ")[-1] or type(error).__name__
            raise could_not_fit(self.spec, message) from error
        if seen is None:
            self._booster = self._first(trained, max_iterations)
            return FitReport(iterations)
        gain = self.spec.stopping_metric.gain
        gains = [gain(value, scores[0]) for value in scores]
        best = int(np.argmax(gains)) + 1
        self._booster = self._first(trained, best)
        return FitReport(best, self._curve(trained, scores, best, rows, label, newest_of(train, len(seen[1]))))

    def _curve(
        self, trained: Any, scores: list[float], best: int, rows: Any, label: Labels, last: NDArray[np.int64]
    ) -> tuple[CurvePoint, ...]:
        """Scores after every few iterations, for the validation rows and as many of the newest training rows."""
        step = max(1, len(scores) // CURVE_POINTS)
        wanted = sorted({*range(1, len(scores) + 1, step), best, len(scores)})
        return tuple(
            CurvePoint(
                n, self._scored(label[last], self._predicted(self._first(trained, n), rows[last])), scores[n - 1]
            )
            for n in wanted
        )

    def _scored(self, label: Labels, predicted: Any) -> float:
        return self.spec.stopping_score(label, predicted, self._weights)

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise UserError(
            f"train.warm_start: champion: {self.spec.kind} does not go on from what it has learned here; "
            "set train.warm_start: null, or use HistGradientBoosting"
        )

    def predict(self, table: pa.Table) -> Floats:
        if self._booster is None:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        matrix = self._encoding.matrix(table)
        if not len(matrix):
            return np.empty(self.spec.problem.shape(0))
        return np.asarray(self._predicted(self._booster, matrix), dtype=np.float64)

    def save(self, folder: Path) -> None:
        self._texts.save(folder)
        (folder / self.weights).write_text(self._text(self._booster), encoding="utf-8")
        libraries = {self.library: self._library.__version__}
        own = EncodedLearner(categories=self._encoding.categories, weights=self.weights, libraries=libraries)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> NativeBoosting:
        learner = cls.__new__(cls)  # `__init__` would check the params, by the release of the library that is installed
        learner._configure(spec, str(folder))
        learner.threshold = description.threshold
        categories = description.own(EncodedLearner).categories
        learner._encoding = Encoding(spec.coded, categories, DenseTexts.load(folder, spec), spec.arrays)
        try:
            learner._booster = learner._read((folder / cls.weights).read_text(encoding="utf-8"))
        except (ValueError, learner._error) as error:
            raise RefitError(
                f"{folder / cls.weights} holds no trees of {cls.library} ({first_line(error, 200)}); restore the "
                "folder, or train again"
            ) from error
        return learner

    def unsafe_reason(self) -> str | None:
        return self._texts.unsafe_reason(self.spec.trusted_types)

    def digest(self) -> str:
        categories = self._encoding.to_dict()
        parts = {"features": list(self.spec.features), "categories": categories, "threshold": self.threshold.hex()}
        return digest({"kind": self.spec.kind, "model": self._decisive(self._booster), **self._texts.digest(), **parts})

    @property
    def _texts(self) -> DenseTexts:
        return self._encoding.texts or DenseTexts()

    def _check(self, where: str) -> None:
        """Raise UserError if the library lacks an argument, or one is set elsewhere or twice."""
        if self.spec.task not in self.declaration.tasks:
            is_for, stem = " and ".join(self.declaration.tasks), self.spec.kind.removesuffix("Classifier")
            other = f"{stem.removesuffix('Regressor')}{'Regressor' if self.spec.task == 'regression' else 'Classifier'}"
            raise UserError(
                f"learner {self.spec.kind!r} is for {is_for}; train.task is {self.spec.task!r}: use {other} "
                f"({where}.kind)"
            )
        valid_names, main_names, given = self._argument_names(), self._main_names(), dict[str, str]()
        for name in self.spec.params:
            main = main_names.get(name, name)
            if reason := DECIDED.get(name, DECIDED.get(main)):
                raise UserError(f"learner {self.spec.kind!r}: {name} is not set here, {reason} ({where}.params.{name})")
            if (other := given.setdefault(main, name)) != name:
                raise UserError(
                    f"learner {self.spec.kind!r}: {other} and {name} are one argument; keep one ({where}.params.{name})"
                )
            if name not in valid_names:
                near = nearest(name, valid_names)
                raise UserError(f"learner {self.spec.kind!r} has no argument {name!r}{near} ({where}.params.{name})")
        rounds = self._arguments.get("n_estimators", ITERATIONS)
        if not isinstance(rounds, int) or rounds < 1:
            raise UserError(
                f"learner {self.spec.kind!r}: n_estimators is a whole number from 1 on; found {rounds!r} "
                f"({where}.params.n_estimators)"
            )
        if "objective" in self._arguments and self.spec.task != "regression":
            raise UserError(
                f"learner {self.spec.kind!r}: objective is not set here, it is that of train.task "
                f"({where}.params.objective)"
            )

    def _params(self, **fixed: object) -> Arguments:
        """The library's params: the learner's own arguments over the task's objective, and below what is `fixed`."""
        own = {name: value for name, value in self._arguments.items() if name != "n_estimators"}
        classes = {"num_class": len(self.spec.classes)} if self.spec.task == "multiclass" else {}
        return {"objective": self.objectives[self.spec.task], **own, **classes, "seed": self.spec.seed, **fixed}

    def _score(self, predicted: Any, of: Any) -> tuple[str, float]:
        """The validation score, as the library asks for it after each iteration; `of` holds the labels as float32."""
        labels = of.get_label().astype(np.float64 if self.spec.task == "regression" else np.int64)
        return "score", self._scored(labels, predicted)

    @property
    def _higher_is_better(self) -> bool:
        return self.spec.stopping_metric.higher_is_better

    @abstractmethod
    def _class_weights(self, label: Labels) -> Floats | None:
        """(classes,) how much a row of each class counts in the fit; None if all count alike."""

    @abstractmethod
    def _argument_names(self) -> set[str]:
        """Names of the arguments that params may set."""

    def _main_names(self) -> Mapping[str, str]:
        """The one name by which an argument is read here, by each other name that the library has for it."""
        return {}

    @abstractmethod
    def _keeps_its_trees(self) -> bool:
        """Whether the first trees of a longer fit equal those of a shorter one."""

    @abstractmethod
    def _train(
        self, rows: NDArray[np.float64], label: Labels, most: int, seen: tuple[Any, Labels] | None, progress: Progress
    ) -> tuple[Any, list[float]]:
        """Train; return the booster and the validation score after each iteration."""

    @abstractmethod
    def _first(self, trained: Any, iterations: int) -> Any:
        """The booster of the first iterations, in the form it has after being stored and loaded."""

    @abstractmethod
    def _predicted(self, booster: Any, rows: NDArray[np.float64]) -> Any:
        """Probabilities or numbers."""

    @abstractmethod
    def _text(self, booster: Any) -> str:
        """The booster as text or JSON of the library."""

    @abstractmethod
    def _read(self, text: str) -> Any:
        """The booster stored in such a text."""

    def _decisive(self, booster: Any) -> str:
        """The text that its predictions depend on."""
        return self._text(booster)


def _imported(library: str, kind: str, where: str) -> Any:
    try:
        return import_module(library)
    except ModuleNotFoundError:
        raise UserError(
            f"learner {kind!r} needs {library}, which is not installed; install it next to Refit: "
            f"{install_extra('boosting')} ({where}.kind)"
        ) from None
