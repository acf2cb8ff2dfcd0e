"""XGBoost as a learner: native categories and missing values, stored in its own JSON format."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Floats, Labels
from refit.learners.native_boosting import DECIDED, PATIENCE, NativeBoosting
from refit.runtime.context import Progress


class XGBoost(NativeBoosting):
    """XGBoost gradient boosting (Chen and Guestrin 2016), with the arguments of `XGBClassifier`."""

    library: ClassVar[str] = "xgboost"
    error: ClassVar[str] = "core.XGBoostError"
    weights: ClassVar[str] = "trees.json"
    objectives: ClassVar[Mapping[str, str]] = {
        "binary": "binary:logistic",
        "multiclass": "multi:softprob",
        "regression": "reg:squarederror",
    }

    def _argument_names(self) -> set[str]:
        elsewhere = {*DECIDED, "importance_type", "verbosity"}
        return {*self._library.XGBClassifier().get_params(), "quantile_alpha"} - elsewhere

    def _class_weights(self, label: Labels) -> Floats | None:
        of_ones = self._arguments.get("scale_pos_weight")
        return np.array([1.0, of_ones]) if of_ones and self.spec.task == "binary" else None

    def _keeps_its_trees(self) -> bool:
        return self._arguments.get("booster") in (None, "gbtree")

    def _train(
        self, rows: NDArray[np.float64], label: Labels, most: int, seen: tuple[Any, Labels] | None, progress: Progress
    ) -> tuple[Any, list[float]]:
        params = self._params(disable_default_eval_metric=1, verbosity=0)
        params = {name: value for name, value in params.items() if value is not None}
        train = partial(self._library.train, params, self._data(rows, label), most, verbose_eval=False)
        if seen is None:
            return train(), []
        scores: dict[str, dict[str, list[float]]] = {}
        stop = self._library.callback.EarlyStopping(rounds=PATIENCE, maximize=self._higher_is_better)
        evals = [(self._data(*seen), "seen")]
        trained = train(evals=evals, custom_metric=self._score, evals_result=scores, callbacks=[stop])
        return trained, scores["seen"]["score"]

    def _data(self, rows: NDArray[np.float64], label: Labels | None = None) -> Any:
        kinds = ["c" if categorical else "q" for categorical in self._encoding.is_categorical]
        return self._library.DMatrix(rows, label, feature_types=kinds, enable_categorical=True)

    def _first(self, trained: Any, iterations: int) -> Any:
        first = trained[:iterations] if self._keeps_its_trees() else trained
        return self._read(bytes(first.save_raw("json")).decode())

    def _predicted(self, booster: Any, rows: NDArray[np.float64]) -> Any:
        return booster.predict(self._data(rows))

    def _text(self, booster: Any) -> str:
        return bytes(booster.save_raw("json")).decode()

    def _read(self, text: str) -> Any:
        booster = self._library.Booster()
        booster.load_model(bytearray(text.encode()))
        booster.set_attr(**dict.fromkeys(booster.attributes()))  # early stopping attributes affect no prediction
        return booster
