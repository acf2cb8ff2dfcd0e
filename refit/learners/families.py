"""Built-in learner families by kind; each module is imported only when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from refit.learners.contract import Learner
from refit.learners.networks.architectures import ARCHITECTURES

FAMILIES: Mapping[str, str] = {
    "baseline": "refit.learners.baseline:Baseline",
    **dict.fromkeys(ARCHITECTURES, "refit.learners.networks.network:Network"),
    "policy": "refit.learners.networks.policies.learner:Policy",
    "transformer": "refit.learners.networks.transformer.learner:Transformer",
    "torch_tabular": "refit.learners.torch_tabular:TorchTabular",
    "relative": "refit.learners.relative:Relative",
    "recursive": "refit.learners.recursive:Recursive",
    "fp_growth": "refit.learners.baskets:FPGrowth",
    "self_training": "refit.learners.self_training:SelfTraining",
    "label_spreading": "refit.learners.label_spreading:LabelSpreading",
    "online": "refit.learners.online.learner:Online",
    "lightgbm.LGBMClassifier": "refit.learners.lightgbm_boosting:LightGBM",
    "lightgbm.LGBMRegressor": "refit.learners.lightgbm_boosting:LightGBM",
    "xgboost.XGBClassifier": "refit.learners.xgboost_boosting:XGBoost",
    "xgboost.XGBRegressor": "refit.learners.xgboost_boosting:XGBoost",
}
KERAS = "refit.learners.networks.keras.model:KerasModel"  # of a function in a project's file
ADAPTERS: Mapping[str, str] = {  # by task: of third-party classes that are no learners of their own
    "anomaly": "refit.learners.detector:Detector",
    "clustering": "refit.learners.clusterer:Clusterer",
    "reduction": "refit.learners.reducer:Reducer",
}
AVERAGED = "refit.learners.averaged:Averaged"  # of any kind, fitted with several seeds


def family(kind: str) -> type[Learner]:
    """The class of a built-in kind."""
    return load_class(FAMILIES[kind])


def load_class(entry: str) -> type[Learner]:
    """Import the class that `module:Class` names."""
    module, _, name = entry.partition(":")
    cls: type[Learner] = getattr(importlib.import_module(module), name)
    return cls
