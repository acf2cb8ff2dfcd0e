"""Models trained at past moments; each training is done once for all policies and cached on disk."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from feature_store.definition import ModelView
from refit import learners
from refit.config.windows import LEARNED, windows
from refit.config.windows import Window as Span
from refit.errors import RefitError, UserError
from refit.evaluation.prediction_cost import THOROUGH, megabytes, serving
from refit.files.artifacts import atomic, atomic_folder, check_manifest, digest, write_manifest
from refit.learners import Labels, Learner
from refit.operations.replay.history import FOLDER, Floats, History, Rows
from refit.runtime.context import Context
from refit.runtime.stage_code import code_digest
from refit.schemas.artifact import utc_text
from refit.schemas.replayed_fit import FitRecord
from refit.schemas.warm_start import WarmStart
from tasks.train import from_scratch, require_learnable_windows, warm
from tasks.train.folds import LabelledRows, content, require_late
from tasks.train.specs import make_all, specs_of
from tasks.train.table import drawn
from tasks.train.trial import predict

MODEL, RECORD, UNSEEN = "model", "fit.json", "unseen.npy"


@dataclass(frozen=True)
class Fit:
    """A candidate as the stage `train` would have made it at `as_of`, with its predictions for all later rows."""

    name: str  # digest of everything that affects it
    as_of: datetime
    record: FitRecord
    test: Span
    opened: tuple[datetime, ...]  # when the validation window and the test window opened
    seen_until: datetime
    learned: Rows  # indices of the training and validation rows, those beyond `train.max_rows` among them
    tested: Rows
    validation: Rows  # the newest of the learned rows
    held_back: Rows  # the learned rows that were held out from a first fit
    unseen: Floats  # predictions for `held_back` (`Trained.reference`)
    start: int  # index of the first row in `predicted`
    predicted: Floats
    folder: Path = field(repr=False)

    def p(self, rows: Rows) -> Floats:
        """Its predictions for rows that it did not learn from.

        Raises:
            RefitError: it may have learned from one of the rows, which would be a bug in Refit.
        """
        if len(rows) and rows.min() < self.start:
            raise RefitError("a replay asked a model about rows that it may have learned from: a fault of Refit")
        return self.predicted[rows - self.start]


class Fits:
    """The models of one history, trained on first request."""

    def __init__(self, context: Context, history: History) -> None:
        self._context, self._history = context, history
        self._home = context.path(FOLDER / "fits")
        self._predictions = context.path(FOLDER / "predicted")
        self._cache: dict[str, Fit] = {}
        self._delay = timedelta(hours=context.params.featurize.label.delay_hours)
        if context.params.train.start_from is not None:
            raise UserError(
                "a replay trains as of past moments, and the model that train.start_from names may have learned from "
                "what came after them: set train.start_from: null"
            )
        self._specs = specs_of(context.params, history.features, context.project)
        make_all(self._specs, context.params)
        self.trained = 0  # number of trainings that were not cached on disk

    def at(self, as_of: datetime, champion: Fit | None) -> Fit:
        """The candidate that a run at `as_of` trains when `champion` is the champion.

        Raises:
            UserError: its windows have too few known rows, or a model whose predictions are features had no champion.
            RefitError: a learner predicts a value that is not a probability.
        """
        models = self._history.models.known_by(as_of) if self._history.models else ()
        spans = {span.name: span for span in windows(as_of, self._context.params)}
        rows = {
            name: np.flatnonzero(
                self._history.usable(span.opens or as_of) & self._history.inside(span, span.until(self._delay))
            )
            for name, span in spans.items()
        }
        train, validation = (self._window(rows[name], spans[name], as_of) for name in LEARNED)
        train = self._with_late(train, rows["train"], spans, as_of)
        require_learnable_windows(train, validation, self._history.problem)
        start = self._start(champion)
        name = self._name(train, validation, spans, start, models)
        if name in self._cache:
            return replace(self._cache[name], as_of=as_of, tested=rows["test"])
        folder = self._home / name[:20]
        if not self._whole(folder, as_of):
            self._train(folder, train, validation, start, spans["train"].start)
            self.trained += 1
        self._cache[name] = self._fit(name, as_of, folder, spans, rows)
        return self._cache[name]

    def _whole(self, folder: Path, as_of: datetime) -> bool:
        """Whether a fit is cached and none of its files was changed."""
        if not folder.is_dir():
            return False
        try:
            check_manifest(folder)
        except RefitError:
            self._context.progress(f"what was kept of the model as of {utc_text(as_of)} is damaged: training it again")
            return False
        return True

    def _window(self, rows: Rows, span: Span, as_of: datetime) -> LabelledRows:
        """The usable rows of a window, and the others that were known when the next one opened, if they are used."""
        taken = self._drawn(rows) if span.name == "train" else rows
        labelled = LabelledRows(self._history.table.take(taken), self._history.labels_at(taken, as_of))
        if not self._context.params.featurize.label.use_unlabelled or self._history.problem.optional_label:
            return labelled
        assert span.opens is not None
        others = self._history.inside(span, span.end) & self._history.known(span.opens)
        others[rows] = False
        return replace(labelled, unlabelled=self._history.table.take(np.flatnonzero(others)))

    def _drawn(self, rows: Rows) -> Rows:
        """Those of the training window that a run reads: `train.max_rows` of them at most."""
        most, seed = self._context.params.train.max_rows, self._context.params.train.seed
        if most is None or len(rows) <= most:
            return rows
        return rows[drawn(self._history.table[self._history.features.key].take(rows), most, seed)]

    def _with_late(self, train: LabelledRows, rows: Rows, spans: Mapping[str, Span], as_of: datetime) -> LabelledRows:
        """The training window, with the rows between it and the test window that a stream would else never learn.

        Raises:
            UserError: a learner reads a stream, and the params do not ask for these rows.
        """
        params, history, span, opens = self._context.params, self._history, spans["train"], spans["validation"].opens
        if not params.featurize.label.keep_late:
            missed = np.setdiff1d(np.flatnonzero(history.labelled(as_of) & history.inside(span, span.end)), rows)
            validation = spans["validation"].start
            apart = validation is not None and span.end < validation
            require_late(self._specs, len(missed), params, apart=apart)
            return train
        assert span.opens is not None
        assert opens is not None
        due = min(span.opens, opens - self._delay)
        late = np.setdiff1d(np.flatnonzero(history.labelled(opens) & history.inside(span, due)), rows)
        return replace(train, late=LabelledRows(history.table.take(late), history.labels_at(late)))

    def _start(self, champion: Fit | None) -> WarmStart:
        """The start of training."""
        if champion is None or self._context.params.train.warm_start is None:
            return WarmStart()
        return WarmStart(
            version=utc_text(champion.as_of),
            model_digest=champion.record.model_digest,
            seen_until=champion.seen_until,
            folder=str(champion.folder / MODEL),
        )

    def _name(
        self,
        train: LabelledRows,
        validation: LabelledRows,
        spans: Mapping[str, Span],
        start: WarmStart,
        models: Sequence[ModelView],
    ) -> str:
        params = self._context.params
        return digest(
            [
                [(str(span.start), str(span.end)) for span in spans.values()],
                [content(window.rows) for window in (train, validation)],
                [digest_of(window.label) for window in (train, validation)],
                [content(window.unlabelled) for window in (train, validation) if window.unlabelled is not None],
                *([content(train.late.rows), digest_of(train.late.label)] if train.late else []),
                params.train.model_dump(mode="json"),
                params.featurize.label.delay_hours,  # the gap between folds in order of time
                params.registry.trusted_types,
                start.model_digest,
                *([each.model_digest for each in view.versions] for view in models),
                code_digest("train"),
                [*(spec.source for spec in self._specs), *(spec.sources for spec in self._specs if spec.sources)],
            ]
        )

    def _train(
        self, folder: Path, train: LabelledRows, validation: LabelledRows, start: WarmStart, opens: datetime | None
    ) -> None:
        import pyarrow as pa

        wall, cpu = time.monotonic(), time.process_time()
        if start.version is None:
            trained = from_scratch(self._specs, train, validation, self._context, size_curves=False)
        else:
            trained = warm.go_on(self._context, self._specs, start, train, validation, opens=opens)
        seconds, cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
        takes = serving(trained.learner, validation.rows, THOROUGH)
        labels, metric = np.concatenate([train.label, validation.label]), self._context.params.train.metric
        features = pa.concat_tables([train.rows, validation.rows]).select(list(trained.learner.spec.features))
        with atomic_folder(folder) as scratch:
            (scratch / MODEL).mkdir()
            trained.learner.save(scratch / MODEL)
            write_manifest(scratch / MODEL)
            indices = self._row_indices(trained.unseen, train, validation)
            np.save(scratch / UNSEEN, np.column_stack([indices, trained.reference()]))
            FitRecord(
                learner=trained.best.learner.spec.name,
                model_digest=trained.learner.digest(),
                threshold=trained.learner.threshold,
                naive=self._history.problem.opponent(trained.learner, labels, metric, features),
                rows=trained.rows,
                seconds=round(seconds, 3),
                cpu_seconds=round(cpu_seconds, 3),
                latency_ms=takes.latency_ms.p50,
                cpu_seconds_per_1000=takes.cpu_seconds_per_1000,
                model_mb=megabytes(scratch / MODEL),
            ).write(scratch / RECORD)
            write_manifest(scratch)

    def _row_indices(self, unseen: LabelledRows, train: LabelledRows, validation: LabelledRows) -> Rows:
        """Where rows are among those of both windows; a warm start learns from the newest of them only."""
        import pyarrow as pa
        import pyarrow.compute as pc

        key = self._history.features.key
        learned = pa.concat_tables([train.rows.select([key]), validation.rows.select([key])])
        indices = pc.index_in(unseen.rows[key].combine_chunks(), value_set=learned[key].combine_chunks())
        return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    def _fit(
        self, name: str, as_of: datetime, folder: Path, spans: Mapping[str, Span], rows: Mapping[str, Rows]
    ) -> Fit:
        start = self._history.first_from(spans["validation"].end)
        learned = np.concatenate([rows["train"], rows["validation"]])
        read = np.concatenate([self._drawn(rows["train"]), rows["validation"]])
        unseen = np.load(folder / UNSEEN)
        return Fit(
            name=name,
            as_of=as_of,
            record=FitRecord.read(folder / RECORD),
            test=spans["test"],
            opened=tuple(span.opens for span in spans.values() if span.opens),
            seen_until=spans["validation"].until(self._delay),
            learned=learned,
            validation=rows["validation"],
            held_back=read[unseen[:, 0].astype(np.int64)],
            tested=rows["test"],
            unseen=unseen[:, 1:].reshape(self._history.problem.shape(len(unseen))),
            start=start,
            predicted=self._predicted(folder, as_of, start),
            folder=folder,
        )

    def _predicted(self, folder: Path, as_of: datetime, start: int) -> Floats:
        """The predictions for all rows from `start` on: cached, or computed if the history changed."""
        path = self._predictions / f"{folder.name}-{self._history.digest[:16]}.npz"
        rows = len(self._history) - start
        if (cached := _read_array(path)) is not None and len(cached) == rows:
            return cached
        self._context.progress(f"predicting {rows:,} later rows")
        learner: Learner = learners.load(folder / MODEL, trusted_types=self._context.params.registry.trusted_types)
        later = LabelledRows(self._history.seen_by(as_of, start), np.zeros(rows, np.int64))
        predicted = learner.spec.problem.reported(predict(learner, later))
        with atomic(path) as scratch, scratch.open("wb") as file:
            np.savez(file, predicted)
        return predicted


def digest_of(labels: Labels) -> str:
    """The digest of an array of labels."""
    return hashlib.sha256(labels.tobytes()).hexdigest()


def _read_array(path: Path) -> Floats | None:
    """The array in a file; None if there is no file or its checksum is wrong."""
    try:
        with np.load(path) as file:
            return np.asarray(file["arr_0"], dtype=np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
