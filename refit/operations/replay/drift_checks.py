"""The drift decision of a past moment: the same functions as `refit drift`, with the data known at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from feature_store.sketches import count
from refit.config import DriftParams
from refit.config.windows import label_wait
from refit.drift import performance
from refit.drift.measures import ScoredRows
from refit.drift.performance import Backtest
from refit.drift.retrain_decision import DriftEvidence, RetrainDecision, decide
from refit.operations.replay.fits import Fit
from refit.operations.replay.history import History, Rows
from refit.runtime.context import Context
from refit.schemas.drift_decision import DayWindow, DecisionPolicy, InputVerdict, LastingLoss, PerformanceVerdict
from refit.storage.arrays import summarised
from refit.storage.prediction_log import PREDICTION
from tasks.drift import observations
from tasks.drift.observations import LABEL, connected
from tasks.drift.watch import SHOWN
from tasks.featurize.profile import profile

if TYPE_CHECKING:
    from feature_store.sketches import Sketch

T = TypeVar("T")


class Watch:
    """Makes drift decisions on the models of one history; identical requests of two policies are computed once.

    The classifier check of several columns at once is left out, because it only warns.
    """

    def __init__(self, context: Context, history: History) -> None:
        self._context, self._history = context, history
        self._cache: dict[Any, Any] = {}

    def decide(
        self,
        champion: Fit,
        as_of: datetime,
        trained_as_of: datetime,
        retrained: Sequence[datetime],
        drift: DriftParams,
        changed: date | None = None,
    ) -> RetrainDecision:
        """The decision that `refit drift` would have made at `as_of` on a champion.

        Args:
            trained_as_of: `as_of` of the newest training, whether or not its model was promoted.
            retrained: times of earlier decisions to retrain.
            changed: when the newest loss that one of them answered began.
        """
        gathered = self.gathered(champion, as_of, trained_as_of, retrained, drift, changed)
        return decide(gathered, drift)

    def gathered(
        self,
        champion: Fit,
        as_of: datetime,
        trained_as_of: datetime,
        retrained: Sequence[datetime],
        drift: DriftParams,
        changed: date | None = None,
    ) -> DriftEvidence:
        """The evidence for the decision, with the same numbers as `refit drift` would have had on that day."""
        causes = drift.retrain_on
        spans = self._spans(champion, as_of, drift) if {"input", "performance"} & set(causes) else []
        arrived = self._history.labelled(as_of) & self._history.between(None, as_of)
        is_known = arrived & self._history.between(None, self._ripe(as_of))
        skills = tuple(self._skills(champion, is_known, spans, drift)) if "performance" in causes else ()
        return DriftEvidence(
            as_of=as_of,
            trained_as_of=trained_as_of,
            new_labelled=int((is_known & self._history.between(self._ripe(trained_as_of), as_of)).sum()),
            empty=observations.empty_window(self._history.event_time[arrived], as_of, self._context.params),
            windows=tuple(spans),
            inputs=tuple(self._moved(champion, as_of, is_known, spans, drift)) if "input" in causes else (),
            performance=skills,
            lasting=self._lasting(champion, skills, spans, drift) if skills else None,
            changed=changed,
            learned_from=self._history.days[champion.learned].min().astype(date) if len(champion.learned) else None,
            retrained=tuple(retrained),
            watched=bool({"input", "performance"} & set(causes)),
            zone=self._zone,
        )

    def _spans(self, champion: Fit, as_of: datetime, drift: DriftParams) -> list[DayWindow]:
        tested = self._history.days[np.concatenate([champion.held_back, champion.tested])]
        after = observations.new_from(tested, champion.seen_until.astimezone(self._zone).date())
        params = self._context.params.model_copy(update={"drift": drift})
        return observations.windows(as_of, after, params, max(SHOWN, drift.windows))

    def _ripe(self, as_of: datetime) -> datetime:
        return as_of - label_wait(self._context.params)

    @property
    def _zone(self) -> ZoneInfo:
        return self._context.params.project.zone

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    def _rows(self, fit: Fit, window: DayWindow) -> Rows:
        """The rows of a window that the model would have scored."""
        days = self._history.days[fit.start :]
        first, end = np.datetime64(window.first, "D"), np.datetime64(window.end, "D")
        return fit.start + np.flatnonzero((days >= first) & (days < end))

    def _skills(
        self, fit: Fit, is_known: NDArray[np.bool_], spans: Sequence[DayWindow], drift: DriftParams
    ) -> Iterator[PerformanceVerdict]:
        history, policy = self._history, self._policy(drift)
        reference = self._backtest(fit, policy)
        for window in spans:
            rows = self._rows(fit, window)
            labels = np.where(is_known[rows], history.label[rows], np.nan)
            scored = ScoredRows(history.days[rows], fit.p(rows), labels, history.problem)
            key = (fit.name, fit.as_of, policy, window, int(is_known[rows].sum()))
            yield self._once(key, partial(performance.judge_window, reference, scored, window, policy))

    def _policy(self, drift: DriftParams) -> DecisionPolicy:
        return DecisionPolicy.of(drift, self._context.params.evaluate)

    def _backtest(self, fit: Fit, policy: DecisionPolicy) -> Backtest:
        history = self._history

        def make() -> Backtest:
            held_out = np.concatenate([fit.held_back, fit.tested])
            predicted = np.concatenate([fit.unseen, fit.p(fit.tested)])
            labels = history.labels_at(held_out, fit.as_of).astype(np.float64)
            times, opens = history.event_time[held_out], (*fit.opened, fit.as_of)
            labels = observations.with_every_horizon(labels, times, opens, self._context.params)
            tested = ScoredRows(history.days[held_out], predicted, labels, history.problem)
            return performance.backtest(tested, policy)

        return self._once((fit.name, fit.as_of, policy), make)

    def _lasting(
        self, fit: Fit, skills: Sequence[PerformanceVerdict], spans: Sequence[DayWindow], drift: DriftParams
    ) -> LastingLoss | None:
        policy = self._policy(drift)
        return performance.lasting_loss(self._backtest(fit, policy), skills, policy, spans)

    def _moved(
        self, fit: Fit, as_of: datetime, is_known: NDArray[np.bool_], spans: Sequence[DayWindow], drift: DriftParams
    ) -> Iterator[InputVerdict]:
        if not spans:
            return
        learned = self._once(("learned", fit.name), lambda: self._learned(fit))
        predicted = self._once(("predicted", fit.name, fit.as_of), lambda: self._predicted(fit))
        features = self._once(("scored", fit.name, fit.as_of), lambda: self._scored(fit, learned, predicted))
        labels = self._labels(spans, is_known, learned)
        for window in spans:
            ripe = int(is_known[self._rows(fit, window)].sum())
            key = ("input", fit.name, fit.as_of, window, ripe, drift.model_dump_json())
            current = features.between(window.first, window.end).join(labels.between(window.first, window.end))
            yield self._once(key, partial(observations.judged_inputs, learned, predicted, current, window, drift))

    def _learned(self, fit: Fit) -> Sketch:
        """The training and validation rows of the model, by day."""
        import pyarrow as pa

        history = self._history
        table = history.table.take(fit.learned)
        table = table.append_column("window", pa.repeat("train", table.num_rows))
        table = table.append_column(LABEL, history.problem.to_column(history.labels_at(fit.learned, fit.as_of)))
        return profile(table, history.features, self._zone)

    def _predicted(self, fit: Fit) -> Sketch:
        """The reference for its predictions: those for held-out rows."""
        rows = np.concatenate([fit.held_back, fit.tested])
        predicted = np.concatenate([fit.unseen, fit.p(fit.tested)])
        event_time = self._history.table["event_time"].take(rows)
        return observations.predictions(event_time, predicted, self._history.problem, self._zone)

    def _scored(self, fit: Fit, learned: Sketch, predicted: Sketch) -> Sketch:
        """Features and predictions of all later rows."""
        import pyarrow as pa

        layout = learned.layout
        table = summarised(self._history.seen_by(fit.as_of, fit.start), self._history.features.arrays)
        table = table.append_column(PREDICTION, self._history.problem.predicted_values(fit.predicted))
        table = table.append_column("_day", pa.array(self._history.days[fit.start :]))
        with connected() as connection:
            connection.register("rows", table)
            features = count(connection, "rows", layout.only(name for name in layout.columns if name != LABEL), "_day")
            return features.join(count(connection, "rows", predicted.layout, "_day"))

    def _labels(self, spans: Sequence[DayWindow], is_known: NDArray[np.bool_], learned: Sketch) -> Sketch:
        """The known labels on the days of some windows."""
        import pyarrow as pa

        days = self._history.days
        first, end = np.datetime64(spans[0].first, "D"), np.datetime64(spans[-1].end, "D")
        rows = is_known & (days >= first) & (days < end)
        came = self._history.problem.to_column(self._history.label[rows])
        with connected() as connection:
            connection.register("rows", pa.table({LABEL: came, "_day": days[rows]}))
            return count(connection, "rows", learned.layout.only([LABEL]), "_day")
