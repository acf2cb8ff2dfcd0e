"""LightGBM as a learner: native categories and missing values, stored in its own text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.learners.class_weights import class_weights, row_weights
from refit.learners.contract import Floats, Labels
from refit.learners.native_boosting import DECIDED, PATIENCE, NativeBoosting
from refit.runtime.context import Progress

OURS = {"class_weight"}  # of the scikit-learn interface, converted to weights here


class LightGBM(NativeBoosting):
    """LightGBM gradient boosting (Ke et al. 2017), with the arguments of `LGBMClassifier` or of the library itself."""

    library: ClassVar[str] = "lightgbm"
    error: ClassVar[str] = "basic.LightGBMError"
    weights: ClassVar[str] = "model.txt"
    objectives: ClassVar[Mapping[str, str]] = {each: each for each in ("binary", "multiclass", "regression")}

    def _argument_names(self) -> set[str]:
        aliases = self._library.basic._ConfigAliases._get_all_param_aliases()
        return {*aliases, *(name for names in aliases.values() for name in names), *OURS} - set(DECIDED)

    def _main_names(self) -> Mapping[str, str]:
        aliases = self._library.basic._ConfigAliases._get_all_param_aliases()
        main_names = {name: main for main, names in aliases.items() for name in names}
        rounds = dict.fromkeys(("num_iterations", *aliases["num_iterations"]), "n_estimators")
        return main_names | rounds

    def _keeps_its_trees(self) -> bool:
        return str(self._arguments.get("boosting")) not in ("dart", "rf", "random_forest")

    def _train(
        self, rows: NDArray[np.float64], label: Labels, most: int, seen: tuple[Any, Labels] | None, progress: Progress
    ) -> tuple[Any, list[float]]:
        scores = list[float]()
        # `deterministic` and `force_row_wise` together: the same trees on any number of threads.
        params = self._params(metric="None", verbosity=-1, deterministic=True, force_row_wise=True)
        params = {name: value for name, value in params.items() if name not in OURS}
        categories = np.flatnonzero(self._encoding.is_categorical).tolist()
        own = class_weights(self._arguments.get("class_weight"), label)
        of_rows = None if own is None else row_weights(own, label)
        data = self._library.Dataset(rows, label, weight=of_rows, categorical_feature=categories)

        def judge(predicted: Any, of: Any) -> tuple[str, float, bool]:
            return *self._score(predicted, of), self._higher_is_better

        def tell(environment: Any) -> None:
            progress(f"fitting {self.spec.name}", environment.iteration, most)
            scores.extend(value for _, _, value, _ in environment.evaluation_result_list)

        if seen is None:
            return self._library.train(params, data, most, callbacks=[tell]), scores
        valid = self._library.Dataset(seen[0], seen[1], reference=data)
        callbacks = [tell, self._library.early_stopping(PATIENCE, verbose=False)]
        return self._library.train(params, data, most, [valid], ["seen"], judge, callbacks=callbacks), scores

    def _class_weights(self, label: Labels) -> Floats | None:
        own = class_weights(self._arguments.get("class_weight"), label)
        if self.spec.task != "binary":
            return own
        zeros, ones = np.bincount(np.asarray(label, dtype=np.int64), minlength=2)
        rarer = np.array([max(ones / zeros, 1.0), max(zeros / ones, 1.0)])  # as the library's `is_unbalance`
        weights = rarer if self._arguments.get("is_unbalance") else np.ones(2)
        weights = weights * [1.0, self._arguments.get("scale_pos_weight") or 1.0]
        return weights if own is None else weights * own

    def _first(self, trained: Any, iterations: int) -> Any:
        return self._read(trained.model_to_string(num_iteration=iterations))

    def _predicted(self, booster: Any, rows: NDArray[np.float64]) -> Any:
        return booster.predict(rows)

    def _text(self, booster: Any) -> str:
        return str(booster.model_to_string())

    def _read(self, text: str) -> Any:
        return self._library.Booster(model_str=text)

    def _decisive(self, booster: Any) -> str:
        return self._text(booster).partition("end of trees")[0]  # the rest describes how it was trained
