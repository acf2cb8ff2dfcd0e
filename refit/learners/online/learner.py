"""The learner `online`: reads a stream row by row in time order, and goes on from where its state ends."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import JsonValue

from refit.errors import RefitError, UserError, first_line, message_of
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical
from refit.learners.blas import one_blas_thread
from refit.learners.contract import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Learner,
    Spec,
    check_labels,
    continuing,
    describe,
)
from refit.learners.encoding import Encoding
from refit.learners.networks.params import checked
from refit.learners.online import step_errors
from refit.learners.online.checkpoint import StreamCheckpoint
from refit.learners.online.params import OnlineParams
from refit.learners.online.step_errors import Record
from refit.learners.online.stream_times import Moments, RunningPosition, from_microseconds
from refit.runtime.context import Progress, silent
from refit.schemas.model_description import EncodedLearner, ModelDescription
from refit.schemas.online_state import Alarm, DetectorStates, Position, StreamState

if TYPE_CHECKING:
    import pyarrow as pa

STREAM, MODEL, DETECTORS = "stream.json", "model", "detectors.json"
DIVERGED = 1e100  # predictions and labels from here on; their squares can still be summed


class StepModel(Protocol):
    """A model of one row at a time, which `Online` gives encoded rows in order."""

    safe_format: str

    def start(self, encoding: Encoding) -> None: ...
    def predict(self, matrix: Floats) -> Floats: ...
    def learn(self, row: Floats, label: float) -> None: ...
    def learned(self) -> Any: ...
    def unsafe_reason(self) -> str | None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path, trusted_types: tuple[str, ...]) -> None: ...


class DriftDetector(Protocol):
    """A drift detector of river."""

    drift_detected: bool

    def update(self, x: float) -> object: ...


class Online:
    """Learns each row once, in order of time, after it has predicted it.

    Args of `params`:
        kind: `linear` (Refit's own), a class of river, or a scikit-learn estimator with `partial_fit`.
        params: its arguments.
        scale: give a river model numbers of unit scale; the others always get them.
        detectors: drift detectors of river that watch the error of each step: `adwin`, `page_hinkley`, or a mapping
            with `kind` and `params`.

    A step is predicted by what had been learned from the labels known at its prediction time (`label_known_at`), and is
    learned in the order of the rows. `resume` takes later rows alone. Categories are those of the first fit; others
    count as missing. `predict` learns nothing.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self._configure(spec, where, stored=False)
        self._detectors = self._new_detectors()

    def _configure(self, spec: Spec, where: str, *, stored: bool) -> None:
        own = checked(OnlineParams, "online", spec.params, where)
        if spec.text:
            raise UserError(f"learner 'online' takes no texts, which feature {spec.text[0]!r} is; exclude it ({where})")
        self.spec, self.threshold, self._where = spec, 0.5, f"{where}.params"
        self._arguments = own
        self.model: StepModel = self._new_model(stored=stored)
        self._encoding = Encoding((), {})
        self._position, self.record = RunningPosition(), Record()
        self._last_label: float | None = None
        self._reader: StepModel | None = None  # a copy of the model, for predictions that belong to no step
        self._fitted = False

    def _new_model(self, *, stored: bool) -> StepModel:
        kind, params = self._arguments.kind, dict(self._arguments.params)
        if kind == "linear":
            from refit.learners.online.linear import Linear

            return Linear(self.spec, params, self._where)
        if kind.startswith("river."):
            from refit.learners.online.river_models import RiverModel

            scale = self._arguments.scale
            return RiverModel(self.spec, kind, params, self._where, scale=scale, stored=stored)
        from refit.learners.online.partial_fit import PartialFit

        return PartialFit(self.spec, kind, params, self._where, stored=stored)

    def _new_detectors(self) -> dict[str, DriftDetector]:
        if not self._arguments.detectors:
            return {}
        from refit.learners.online.river_models import detector

        detectors: dict[str, DriftDetector] = {}
        for index, entry in enumerate(self._arguments.detectors):
            name, made = detector(entry, f"{self._where}.detectors[{index}]")
            if name in detectors:
                raise UserError(
                    f"learner 'online': two detectors are {name}, so their alarms could not be told apart: keep one "
                    f"({self._where}.detectors[{index}])"
                )
            detectors[name] = made
        return detectors

    @property
    def declaration(self) -> Declaration:
        return Declaration(
            ("binary", "multiclass", "regression"), warm_start=True, order=True, safe_format=self.model.safe_format
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
        check_labels(label, self.spec)
        self._started(train)._learn(train, label, progress)
        return FitReport()

    def _started(self, train: pa.Table) -> Online:
        """Itself at the start of a stream, with the categories of these rows."""
        self._encoding = Encoding.learn(train, self.spec.coded, self.spec.categorical, arrays=self.spec.arrays)
        self.model.start(self._encoding)
        self._detectors = self._new_detectors()
        start = digest({"features": list(self.spec.features), "categories": self._encoding.to_dict()})
        self._position, self.record, self._last_label = RunningPosition(digest=start), Record(), None
        return self

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
        assert isinstance(before, Online)
        was_all, now_all = (each._arguments.model_dump() for each in (before, self))
        if differing := [name for name in now_all if now_all[name] != was_all[name]]:
            was, now = was_all[differing[0]], now_all[differing[0]]
            raise UserError(
                f"learner {self.spec.name!r} goes on with a stored state of {differing[0]} {was!r}; the params ask for "
                f"{now!r}: set it back, or set train.warm_start: null to learn the stream again"
            )
        if invalid := self.spec.problem.invalid_labels(label):
            raise UserError(f"learner {self.spec.name!r}: {invalid}")
        for name in ("model", "record", "_detectors", "_position"):
            setattr(self, name, copy.deepcopy(getattr(before, name)))
        self._encoding, self._last_label = before._encoding, before._last_label
        self.spec = continuing(self.spec, before.spec)
        self._learn(train, label, progress)
        return FitReport()

    def predict(self, table: pa.Table) -> Floats:
        if not self._fitted:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        matrix = self._encoding.matrix(table)
        if not len(matrix):
            return np.empty(self.spec.problem.shape(0))
        if self._reader is None:
            self._reader = copy.deepcopy(self.model)  # river's models leave traces in themselves where they predict
        with one_blas_thread():
            return self._predicted(self._reader, matrix, "a row to predict")

    def prequential(self, table: pa.Table, label: Labels) -> tuple[Floats, Online]:
        """Go on through later rows with a copy: predict each, then learn it once its label is known.

        Returns (rows,) predictions, and the copy.

        Raises:
            UserError: it cannot predict or learn one of the rows, or diverges.
        """
        after = Online.__new__(Online)
        after._configure(self.spec, self._where, stored=True)  # a stored learner names a class that is not imported
        after.resume(self, table.slice(0, 0), label[:0])
        predicted = after._learn(table, label, silent, checkpoints=False)
        return predicted, after

    # The stream

    def _predicted(self, model: StepModel, matrix: Floats, row: str) -> Floats:
        """Predictions of encoded rows.

        Raises:
            UserError: the model cannot predict such rows, or has diverged.
        """
        with self._named("predict"):
            predicted = model.predict(matrix)
        if not (np.abs(predicted) < DIVERGED).all():  # nan is not smaller either
            raise UserError(
                f"learner {self.spec.name!r} ({self._arguments.kind}) has diverged: its prediction of {row} is no "
                f"number that can be scored; lower its learning rate{self._advice} ({self._where}.params)"
            )
        return predicted

    @contextmanager
    def _named(self, verb: str) -> Iterator[None]:
        """Turn what a library raises at a row into one line."""
        try:
            yield
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError) as error:
            raise UserError(
                f"learner {self.spec.name!r} ({self._arguments.kind}) could not {verb} a row: {first_line(error)}; "
                f"change its params{self._advice}, or disable it in train.learners"
            ) from error

    @property
    def _advice(self) -> str:
        is_raw = self._arguments.kind.startswith("river.") and not self._arguments.scale
        return ", set scale: true if it takes numbers alone" if is_raw else ""

    def _described(self) -> dict[str, object]:
        """Everything that determines what is learned from given rows."""
        return {
            "arguments": self._arguments.model_dump(),
            "task": self.spec.task,
            "seed": self.spec.seed,
            "classes": self.spec.classes,
            "start": self.position.to_json(),
            "model": canonical.digest(self.model.learned()),
        }

    def _learn(self, table: pa.Table, label: Labels, progress: Progress, *, checkpoints: bool = True) -> Floats:
        """Predict and learn each row; returns what each was predicted as."""
        moments, rows, self._reader = Moments.of(table), table.num_rows, None
        moments.check_order(self.position, self.spec.name)
        matrix, values = self._encoding.matrix(table), np.asarray(label, dtype=np.float64)
        if len(large := values[np.abs(values) >= DIVERGED]):
            raise UserError(
                f"learner {self.spec.name!r}: a label is {large[0]:.3g}, whose square is no number: correct the label"
            )
        before, judged = moments.learned_before(rows), moments.judged(rows, self.position)
        chance = step_errors.no_change_errors(self.spec.problem, values, before, self._last_label)
        order = np.argsort(before, kind="stable")  # of the predictions
        due = np.searchsorted(before[order], np.arange(rows + 1), side="right")
        predicted = np.full(self.spec.problem.shape(rows), np.nan)
        checkpoint = None
        if checkpoints and rows and self.unsafe_reason() is None:
            read = matrix, values, moments.event, moments.predicted, moments.known
            checkpoint = StreamCheckpoint.of(
                self.spec.name, self._described(), read, save=self._save, load=self._take, progress=progress
            )
        first = checkpoint.restore(predicted) if checkpoint else 0
        with one_blas_thread():
            for row in range(first, rows):
                at = order[due[row - 1] if row else 0 : due[row]]  # those predicted just before this row is learned
                if len(at):
                    predicted[at] = self._predicted(self.model, matrix[at], f"step {self._position.steps + 1:,}")
                self._step(matrix[row], values[row], predicted[row], chance[row] if judged[row] else None, moments, row)
                if checkpoint and row % 16 == 15:
                    checkpoint.write(predicted, row + 1)
                if row % 1000 == 999:
                    progress(f"learning the stream of {self.spec.name}", row + 1, rows)
        self._fitted = True
        return predicted

    def _step(
        self, row: Floats, label: float, predicted: Any, chance: float | None, moments: Moments, index: int
    ) -> None:
        """Learn one row, after its prediction is counted and the detectors have seen its error."""
        at = None if moments.event is None else int(moments.event[index])
        known = None if moments.known is None else int(moments.known[index])
        sums = None
        if chance is not None:
            of_one = np.array([label]), np.asarray(predicted)[None]
            error = float(step_errors.errors_of(self.spec.problem, *of_one)[0])
            sums = error, float(step_errors.losses_of(self.spec.problem, *of_one)[0]), float(chance)
            self._watch(error, at)
        self.record.add(at, sums)
        with self._named("learn"):
            self.model.learn(row, label)
        self._last_label = float(label)
        self._position.moved(at, known, struct.pack("<qd", -1 if at is None else at, label) + row.tobytes())

    def _watch(self, error: float, at: int | None) -> None:
        """Give the detectors the error of a step, and record their alarms."""
        is_number = self.spec.task == "regression"
        for name, detector in self._detectors.items():
            detector.update(error if is_number else bool(error))
            if detector.drift_detected:
                moment = None if at is None else from_microseconds(at)
                metric = "absolute error" if is_number else "error rate"
                step = self._position.steps + 1
                self.record.alarms.append(Alarm(detector=name, metric=metric, step=step, time=moment))

    @property
    def last_label(self) -> float | None:
        """The newest label learned."""
        return self._last_label

    @property
    def position(self) -> Position:
        """How far it has read its stream."""
        return self._position.position

    # Storage

    def save(self, folder: Path) -> None:
        self._save(folder)
        own = EncodedLearner(categories=self._encoding.categories, weights=MODEL, libraries={})
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    def _save(self, folder: Path) -> None:
        (folder / MODEL).mkdir()
        self.model.save(folder / MODEL)
        self.record.state(self.position).write(folder / STREAM)
        DetectorStates(last_label=self._last_label, detectors=self._stored_detectors()).write(folder / DETECTORS)

    def _stored_detectors(self) -> dict[str, JsonValue]:
        if not self._detectors:
            return {}
        from refit.learners.online.river_models import stored

        return {name: stored(each) for name, each in self._detectors.items()}

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> Online:
        learner = cls.__new__(cls)  # `__init__` would import a class that the folder names
        learner._configure(spec, str(folder), stored=True)
        learner.threshold = description.threshold
        categories = description.own(EncodedLearner).categories
        learner._encoding = Encoding(spec.coded, categories, arrays=spec.arrays)
        learner._load(folder)
        return learner

    def _load(self, folder: Path) -> None:
        self.model.start(self._encoding)
        self.model.load(folder / MODEL, self.spec.trusted_types)
        state = StreamState.read(folder / STREAM)
        self._position, self.record = RunningPosition.of(state.position), Record.restored(state)
        stored = DetectorStates.read(folder / DETECTORS)
        self._last_label, self._detectors = stored.last_label, {}
        if stored.detectors:
            from refit.learners.online import river_json
            from refit.learners.online.river_models import river

            river(f"the model in {folder}")
            self._detectors = {name: river_json.decode(each) for name, each in stored.detectors.items()}
        self._fitted = True

    def _take(self, folder: Path) -> None:
        """Take over a stored state; where it cannot be read, nothing has changed."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other._load(folder)
        vars(self).update(vars(other))

    def unsafe_reason(self) -> str | None:
        if (reason := self.model.unsafe_reason()) is not None:
            return reason
        try:
            self._stored_detectors()
        except (RefitError, RecursionError) as error:
            return f"a detector cannot be stored as JSON: {message_of(error)}"
        return None

    def digest(self) -> str:
        position = self.position.to_json()
        parts = {"features": list(self.spec.features), "threshold": self.threshold.hex(), "position": position}
        categories = self._encoding.to_dict()
        model = canonical.digest(self.model.learned())
        return digest({"kind": self.spec.kind, "model": model, "categories": categories, **parts})
