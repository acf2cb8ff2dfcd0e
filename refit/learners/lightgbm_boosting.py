"""LightGBM as a learner: native categories and missing values, stored in its own text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refit.learners.contract import Labels
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

    def _keeps_its_trees(self) -> bool:
        kinds = [self._arguments.get(name) for name in ("boosting_type", "boosting", "boost")]
        return not {"dart", "rf", "random_forest"} & {str(kind) for kind in kinds}

    def _train(
        self, rows: NDArray[np.float64], label: Labels, most: int, seen: tuple[Any, Labels] | None, progress: Progress
    ) -> tuple[Any, list[float]]:
        scores = list[float]()
        # `deterministic` and `force_row_wise` together: the same trees on any number of threads.
        params = self._params(metric="None", verbosity=-1, deterministic=True, force_row_wise=True)
        params = {name: value for name, value in params.items() if name not in OURS}
        categories = np.flatnonzero(self._encoding.is_categorical).tolist()
        data = self._library.Dataset(rows, label, weight=self._weights(label), categorical_feature=categories)

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

    def _weights(self, label: Labels) -> NDArray[np.float64] | None:
        if (wanted := self._arguments.get("class_weight")) is None:
            return None
        from sklearn.utils import compute_sample_weight

        return np.asarray(compute_sample_weight(wanted, label), dtype=np.float64)

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
