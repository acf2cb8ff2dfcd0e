"""XGBoost as a learner: native categories and missing values, stored in its own JSON format."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Labels
from refit.learners.native_boosting import DECIDED, PATIENCE, NativeBoosting
from refit.runtime.context import Progress

OBJECTIVES = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}


class XGBoost(NativeBoosting):
    """XGBoost gradient boosting (Chen and Guestrin 2016), with the arguments of `XGBClassifier`."""

    library: ClassVar[str] = "xgboost"
    weights: ClassVar[str] = "trees.json"

    def _argument_names(self) -> set[str]:
        return {*self._library.XGBClassifier().get_params(), "quantile_alpha"} - {
            *DECIDED,
            "importance_type",
            "verbosity",
        }

    def _error(self) -> type[Exception]:
        error: type[Exception] = self._library.core.XGBoostError
        return error

    def _keeps_its_trees(self) -> bool:
        return self._arguments.get("booster") in (None, "gbtree")

    def _train(
        self, rows: NDArray[np.float64], label: Labels, most: int, seen: tuple[Any, Labels] | None, progress: Progress
    ) -> tuple[Any, list[float]]:
        task, library = self.spec.task, self._library
        given = {name: value for name, value in self._arguments.items() if name != "n_estimators" and value is not None}
        params = {
            "objective": OBJECTIVES[task],
            **given,
            **({"num_class": len(self.spec.classes)} if task == "multiclass" else {}),
            "seed": self.spec.seed,
            "disable_default_eval_metric": 1,
            "verbosity": 0,
        }
        data = self._data(rows, label)
        if seen is None:
            return library.train(params, data, most, verbose_eval=False), []

        def judge(predicted: Any, of: Any) -> tuple[str, float]:
            return "score", self.spec.score(of.get_label().astype(label.dtype), predicted)

        scores: dict[str, dict[str, list[float]]] = {}
        stop = library.callback.EarlyStopping(rounds=PATIENCE, maximize=self._higher_is_better)
        trained = library.train(
            params,
            data,
            most,
            evals=[(self._data(*seen), "seen")],
            custom_metric=judge,
            evals_result=scores,
            verbose_eval=False,
            callbacks=[stop],
        )
        return trained, scores["seen"]["score"]

    def _data(self, rows: NDArray[np.float64], label: Labels | None = None) -> Any:
        kinds = ["c" if categorical else "q" for categorical in self._encoding.is_categorical]
        return self._library.DMatrix(rows, label, feature_types=kinds, enable_categorical=True)

    def _first(self, trained: Any, iterations: int) -> Any:
        first = trained[:iterations] if self._keeps_its_trees() else trained
        return self._read(bytes(first.save_raw("json")).decode())

    def _predicted(self, booster: Any, rows: NDArray[np.float64]) -> NDArray[Any]:
        predicted: NDArray[Any] = booster.predict(self._data(rows))
        return predicted

    def _text(self, booster: Any) -> str:
        return bytes(booster.save_raw("json")).decode()

    def _read(self, text: str) -> Any:
        booster = self._library.Booster()
        booster.load_model(bytearray(text.encode()))
        booster.set_attr(**dict.fromkeys(booster.attributes()))  # early stopping attributes affect no prediction
        return booster

    def _decisive(self, booster: Any) -> str:
        return self._text(booster)
