"""A Keras model as a learner: a function in a file of the project builds it, Keras trains it batch by batch."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refit.config import file_of
from refit.errors import RefitError, UserError, cut, first_line
from refit.files.artifacts import digest, write_manifest
from refit.learners import canonical, project_files, safe
from refit.learners.contract import (
    DESCRIPTION,
    CurvePoint,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    describe,
    stored_spec,
)
from refit.learners.encoding import Encoding
from refit.learners.networks.checkpoints import Checkpoint, identity
from refit.learners.networks.determinism import deterministic, threads
from refit.learners.networks.devices import rows_at_once
from refit.learners.networks.inputs import Inputs, Preparation
from refit.learners.networks.keras.backend import import_keras
from refit.learners.networks.keras.config import config_of, unsafe
from refit.learners.networks.keras.function import bound, params_of
from refit.learners.networks.keras.inputs import NUMBERS, Feed, Shapes
from refit.learners.networks.keras.state import KerasState, predicting
from refit.learners.networks.loop import rows_in_words
from refit.learners.networks.params import ArchitectureParams
from refit.learners.networks.prepared import TWIN_ROWS, FitInput, PreparedLearner, predict_alike
from refit.learners.networks.scoring import best_epoch
from refit.learners.networks.surroundings import EpochReport, surroundings
from refit.learners.newest import newest_of
from refit.learners.texts import DenseTexts
from refit.runtime.context import Progress
from refit.schemas.model_description import EncodedLearner, ModelDescription

if TYPE_CHECKING:
    import pyarrow as pa

MODEL, PREPARATION = "model.keras", "preparation.safetensors"
PROBED_ROWS = 512  # whose outputs are looked at after a fit without validation rows
SHOW_SECONDS = 1.0  # between two reports of progress within an epoch
ROUNDING = 1e-3  # by which probabilities in single precision may miss the sum of 1
LOSSES = {"binary": "binary_crossentropy", "multiclass": "sparse_categorical_crossentropy", "regression": "mse"}
Scorer = Callable[[Any, int], CurvePoint]


class KerasModel(PreparedLearner):
    """Trains and predicts on the CPU, with one thread, the model that `build(shapes, outputs, **params)` returns.

    With validation rows it keeps the weights of the epoch with the best score. A model that is not compiled is trained
    by Adam on the loss of the task.
    """

    declaration: ClassVar[Declaration] = Declaration(
        ("binary", "multiclass", "regression"), warm_start=True, sequences=True, images=True, safe_format="keras"
    )

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        super().__init__(spec, where)
        self._params = params_of(spec, where)
        self._keras = import_keras(self._params.backend, spec.kind, where)
        module = project_files.module_of(spec.kind, spec.source, where)
        self._objects = project_files.objects_of(module)
        self._function, self._arguments = bound(spec, self._objects, self._params, where)
        if NUMBERS in spec.categorical or NUMBERS in spec.arrays:
            raise UserError(
                f"learner {spec.kind!r}: a feature is named {NUMBERS!r}, which is the name of the input that holds all "
                "numbers; rename it"
            )
        self._model: Any = None

    def _fit(self, fit: FitInput) -> FitReport:
        reading = ArchitectureParams(max_categories=self._params.max_categories)
        self._preparation = Preparation.learn(self.spec, fit.rows, reading)
        self._learn_scale(fit.label)
        return self._learn(None, fit)

    def _resume(self, before: Self, fit: FitInput) -> FitReport:
        self._read_as(before)
        self._scale = before._scale
        return self._learn(before, fit)

    def _learn(self, before: KerasModel | None, fit: FitInput) -> FitReport:
        label, validation = fit.label, fit.validation
        rows, score = self._prepared.inputs(fit.rows), None
        if validation is not None:
            recent = newest_of(fit.rows, len(validation[1]))
            parts = ((rows.take(recent), label[recent]), (self._prepared.inputs(validation[0]), validation[1]))

            def score(model: Any, epoch: int) -> CurvePoint:
                scores = (self.spec.stopping_score(given, self._predictions(model, inputs)) for inputs, given in parts)
                return CurvePoint(epoch, *scores)

        with self._training():
            model = self._built()
            if before is not None:
                self._take_over(model, before, rows.take(slice(0, TWIN_ROWS)))
            epochs = self._params.epochs if fit.iterations is None else fit.iterations
            shuffle = torch.Generator().manual_seed(self.spec.seed)  # as in our own loop: the same batches
            state = KerasState(model, shuffle, epochs)
            unseen = [] if validation is None else [*parts[1][0].tensors(), torch.from_numpy(validation[1])]
            checkpoint = self._checkpoint(state, [*rows.tensors(), torch.from_numpy(label), *unseen], fit.progress)
            if checkpoint:
                checkpoint.restore(state)
            if before is not None and score is not None and not state.curve:  # it may be best as it is
                state.curve, state.predicting = [score(model, 0)], model.get_weights()
            best = self._train(state, rows, label, score, fit.progress, checkpoint)
            with self._failures("copying the model"):
                self._model = self._keras.models.clone_model(model)  # without optimizer and metrics
                self._model.set_weights(model.get_weights())
        if validation is None:
            self._predictions(self._model, rows.take(slice(0, PROBED_ROWS)))  # are its outputs probabilities?
        return FitReport(best, tuple(state.curve))

    def _checkpoint(self, start: KerasState, rows: list[Tensor], progress: Progress) -> Checkpoint | None:
        """The checkpoint of a fit of these rows that starts from a state, if there is a folder for it."""
        around = surroundings.get()
        if around.checkpoints is None:
            return None
        described = {**stored_spec(self.spec), "source": self.spec.source}
        described |= {"epochs": start.epochs, "libraries": self._libraries()}
        name = identity(described, [*start.tensors().values(), *rows])
        return Checkpoint(around.checkpoints, name, self.spec.name, around.every_seconds, progress)

    def _take_over(self, model: Any, before: KerasModel, rows: Inputs) -> None:
        """Give a model the weights of another learner's.

        Raises:
            UserError: that has other layers: its weights differ, or predict otherwise here.
        """
        shapes = [[tuple(weight.shape) for weight in each.get_weights()] for each in (model, before._fitted)]
        if shapes[0] == shapes[1]:
            model.set_weights(before._fitted.get_weights())
            one, other = (before._predictions(each, rows) for each in (model, before._fitted))
            if predict_alike(one, other, before._scale):
                return
        raise self._error(
            "returned a model with other layers than the one that it goes on from; set its params as they were "
            f"({json.dumps(dict(before.spec.params))}), or train.warm_start: null"
        )

    def _built(self) -> Any:
        """The model that the function builds, compiled."""
        outputs = self._outputs
        with self._failures(self.spec.kind.rpartition(":")[2]):
            model = self._function(Shapes(self._prepared), outputs, **self._arguments)
        if not isinstance(model, self._keras.Model):
            raise self._error(f"returned a {type(model).__name__}, a keras.Model was expected")
        if not getattr(model, "inputs", None):
            raise self._error("returned a model without inputs; begin it with keras.Input(shape, name=...)")
        if model.output_shape != (None, outputs):
            raise self._error(f"returned a model whose output is {model.output_shape}, {(None, outputs)} was expected")
        if (reason := unsafe(model)) is not None:
            raise self._error(
                f"returned a model that cannot be stored safely: {reason}; use a keras.Layer of your own, or "
                "keras.ops, in place of a lambda"
            )
        if not model.compiled:
            model.compile(optimizer="adam", loss=LOSSES[self.spec.task])
        return model

    def _train(
        self,
        state: KerasState,
        rows: Inputs,
        label: Labels,
        score: Scorer | None,
        progress: Progress,
        checkpoint: Checkpoint | None,
    ) -> int:
        """Train the model of a state in place, to the weights of the best epoch; returns that epoch."""
        around, model, epochs = surroundings.get(), state.model, state.epochs
        with self._failures("training"):
            epoch_of = self._epochs(state, rows, label, progress)
        best = best_epoch(self.spec.stopping_metric, state.curve) if state.curve else epochs
        if around.judge is not None and state.curve:
            around.judge(state.curve, epochs)
        while state.epoch < epochs and not state.finished:
            started = time.monotonic()
            with self._failures("training"):
                loss = epoch_of(state.epoch + 1)
            state.epoch += 1
            with predicting(model):
                if score is not None:
                    state.curve.append(score(model, state.epoch))
                    best = best_epoch(self.spec.stopping_metric, state.curve)
                if score is None or best == state.epoch:
                    state.predicting = model.get_weights()
            state.finished = state.epoch == epochs or (
                score is not None and state.epoch - best >= self._params.patience
            )
            if checkpoint:
                checkpoint.write(state)
            self._report(state, loss, time.monotonic() - started)
            if around.judge is not None and state.curve:
                around.judge(state.curve, epochs)
        if state.predicting is not None:
            model.set_weights(state.predicting)
        return best

    def _report(self, state: KerasState, loss: float, seconds: float) -> None:
        """Report an epoch, if something listens."""
        if (on_epoch := surroundings.get().on_epoch) is None:
            return
        point, rate = state.curve[-1] if state.curve else None, float(state.model.optimizer.learning_rate)
        scores = {"training": point.training, "validation": point.validation} if point else {}
        name, seed = self.spec.name, self.spec.seed
        on_epoch(EpochReport(name, seed, state.epoch, state.epochs, loss, rate, round(seconds, 3), **scores))

    def _epochs(self, state: KerasState, rows: Inputs, label: Labels, progress: Progress) -> Callable[[int], float]:
        """A function that trains one epoch and returns the mean loss of its rows."""
        model, epochs, size = state.model, state.epochs, self._params.batch_rows
        feed, target = Feed(self._keras, model, self._prepared), self._target(label)

        def epoch_of(epoch: int) -> float:
            total, shown = 0.0, -math.inf
            of_epoch = np.random.SeedSequence([self.spec.seed, epoch]).generate_state(1)
            self._keras.utils.set_random_seed(int(of_epoch[0]))  # what draws without a seed of its own keeps no state
            batches = torch.randperm(len(rows), generator=state.shuffle).split(size)  # type: ignore[no-untyped-call]
            for step, batch in enumerate(batches):
                if time.monotonic() - shown > SHOW_SECONDS:
                    progress(f"fitting {self.spec.name}, epochs", epoch - 1 + step / len(batches), epochs)
                    shown = time.monotonic()
                given = feed(rows.take(batch)), target[batch.numpy()]
                try:
                    loss = float(model.train_on_batch(*given, return_dict=True)["loss"])
                except RuntimeError:  # of torch, whose cross-entropy of probabilities refuses nan
                    if np.isfinite(model.predict_on_batch(given[0])).all():
                        raise
                    loss = math.nan
                if not math.isfinite(loss):
                    raise UserError(
                        f"learner {self.spec.name!r}: the loss is {loss} in epoch {epoch}, batch {step + 1} "
                        f"({rows_in_words(batch)}); lower the learning rate of its optimizer, set its clipnorm, or "
                        "look at these rows"
                    )
                total += loss * len(batch)
            return total / len(rows)

        return epoch_of

    def _target(self, label: Labels) -> NDArray[Any]:
        """Class codes, or a column of numbers."""
        if self.spec.task == "multiclass":
            return label.astype(np.int64)
        centre, scale = self._scale
        return np.asarray((label - centre) / scale, dtype=np.float32)[:, None]

    def predict(self, table: pa.Table) -> Floats:
        model, rows = self._fitted, self._prepared.inputs(table)
        with threads(1), self._keras.device("cpu"):
            return self._predictions(model, rows)

    def _predictions(self, model: Any, rows: Inputs) -> Floats:
        """Predictions as float64, in the label's units."""
        feed, parts = Feed(self._keras, model, self._prepared), [np.empty((0, len(self.spec.classes) or 1), np.float32)]
        size = rows_at_once(self._params.batch_rows)
        with self._failures("predicting"):
            for start in range(0, len(rows), size):
                parts.append(model.predict_on_batch(feed(rows.take(slice(start, start + size)))))
        outputs = np.concatenate(parts).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise UserError(
                f"learner {self.spec.name!r} predicts numbers that are not finite, its training has diverged; lower "
                "the learning rate of its optimizer, or set its clipnorm"
            )
        if self.spec.task == "regression":
            centre, scale = self._scale
            return np.asarray(centre + scale * outputs[:, 0])
        sums = outputs.sum(axis=1, keepdims=True) if self.spec.classes else np.ones((len(outputs), 1))
        if not ((outputs >= 0) & (outputs <= 1) & (np.abs(sums - 1) <= ROUNDING)).all():
            activation = "softmax" if self.spec.classes else "sigmoid"
            raise self._error(
                f"returned a model whose outputs are no probabilities, from {outputs.min():g} to {outputs.max():g}; "
                f"end it with activation={activation!r}"
            )
        return np.asarray(outputs / sums if self.spec.classes else outputs[:, 0])

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Seed all generators, and name layers from 0 on, as in a new process; the process's own state is restored."""
        python, numpy = random.getstate(), np.random.get_state()
        self._keras.utils.clear_session(free_memory=False)
        with (
            deterministic(self.spec.seed, 1),
            self._keras.device("cpu"),
            self._keras.saving.custom_object_scope(self._objects),
        ):
            self._keras.utils.set_random_seed(self.spec.seed)
            try:
                yield
            finally:
                random.setstate(python)
                np.random.set_state(numpy)

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Report a failure of the user's function or of Keras as a UserError, with the line of the file if it has one.

        Keras raises errors of many classes for mistakes in a model.
        """
        try:
            yield
        except RefitError:
            raise
        except Exception as error:
            message = cut(project_files.failure(error, file_of(self.spec.kind)), 500)
            raise UserError(
                f"learner {self.spec.name!r} ({self.spec.kind}): {what} failed: {message}; correct it, or disable it "
                "in train.learners"
            ) from error

    def _error(self, what: str) -> UserError:
        file, _, function = self.spec.kind.rpartition(":")
        return UserError(f"learner {self.spec.name!r}: {function} of {file} {what}")

    @property
    def _fitted(self) -> Any:
        return self._after_fit(self._model)

    def save(self, folder: Path) -> None:
        self._fitted.save(folder / MODEL)
        safe.save_arrays({**self._prepared.to_arrays(), "label.scale": self._scale}, folder / PREPARATION)
        self._texts.save(folder)
        project_files.store_code(self.spec, folder)
        categories, libraries = self._prepared.encoding.categories, self._libraries()
        own = EncodedLearner(categories=categories, weights=MODEL, libraries=libraries)
        describe(self, own).write(folder / DESCRIPTION)
        write_manifest(folder)

    def _libraries(self) -> dict[str, str]:
        used = ("keras", "torch", *(("tensorflow",) if self._params.backend == "tensorflow" else ()))
        return {name: release_of(name) for each in used for name in _distributions(each)}

    @classmethod
    def load(cls, folder: Path, description: ModelDescription, spec: Spec) -> KerasModel:
        learner = cls(spec, where=str(folder))
        learner.threshold = description.threshold
        encoding = Encoding(spec.coded, description.own(EncodedLearner).categories, DenseTexts.load(folder, spec))
        arrays = safe.load_arrays(folder / PREPARATION)
        learner._scale = arrays.pop("label.scale")
        learner._preparation = Preparation.stored(spec, encoding, arrays)
        with learner._training(), safe.no_pickle():
            try:
                learner._model = learner._keras.saving.load_model(folder / MODEL, compile=False, safe_mode=True)
            except Exception as error:  # of many classes: Keras's own, of HDF5 and of zip files
                raise RefitError(
                    f"{folder / MODEL} is no model that Keras loads safely ({first_line(error, 200)}); restore the "
                    "folder, or train again"
                ) from error
        return learner

    def unsafe_reason(self) -> str | None:
        return self._texts.unsafe_reason(self.spec.trusted_types) or project_files.unsafe_reason(self.spec)

    def digest(self) -> str:
        arrays = {**self._prepared.to_arrays(), "label.scale": self._scale}
        return digest(
            {
                "kind": self.spec.kind,
                "backend": self._params.backend,
                "model": canonical.digest([config_of(self._fitted), self._fitted.get_weights(), arrays]),
                "code": hashlib.sha256(self.spec.source.encode()).hexdigest(),
                **self._texts.digest(),
                "features": list(self.spec.features),
                "categories": self._prepared.encoding.to_dict(),
                "threshold": self.threshold.hex(),
            }
        )


def _distributions(module: str) -> list[str]:
    """The installed packages of a module by their normal names: `tensorflow` may be in `tensorflow-cpu`."""
    return [name.lower().replace("_", "-") for name in metadata.packages_distributions()[module]]


def release_of(distribution: str) -> str:
    """The installed version, without the name of a build such as `+cpu`."""
    return metadata.version(distribution).split("+")[0]
