"""Our own families of learners by kind; each lives in a module that is imported only when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from tasks.learners.contract import Learner

FAMILIES: Mapping[str, str] = {
    "baseline": "tasks.learners.baseline:Baseline",
    "torch_tabular": "tasks.learners.torch_tabular:TorchTabular",
    "relative": "tasks.learners.relative:Relative",
    "recursive": "tasks.learners.recursive:Recursive",
    "lightgbm.LGBMClassifier": "tasks.learners.lightgbm_boosting:LightGBM",
    "lightgbm.LGBMRegressor": "tasks.learners.lightgbm_boosting:LightGBM",
    "xgboost.XGBClassifier": "tasks.learners.xgboost_boosting:XGBoost",
    "xgboost.XGBRegressor": "tasks.learners.xgboost_boosting:XGBoost",
}
AVERAGED = "tasks.learners.averaged:Averaged"  # of any kind, fitted with several seeds


def family(kind: str) -> type[Learner]:
    """The class of one of our kinds, by its entry in `FAMILIES`."""
    return imported(FAMILIES[kind])


def imported(entry: str) -> type[Learner]:
    """The class that `module:Class` names."""
    module, _, name = entry.partition(":")
    found: type[Learner] = getattr(importlib.import_module(module), name)
    return found
