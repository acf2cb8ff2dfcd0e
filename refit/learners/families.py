"""Built-in learner families by kind; each module is imported only when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from refit.extras import not_installed
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
OWN_NETWORK = "refit.learners.networks.own_module:OwnNetwork"  # of a class derived from `torch.nn.Module`
ADAPTERS: Mapping[str, str] = {  # by task: of third-party classes that are no learners of their own
    "anomaly": "refit.learners.detector:Detector",
    "clustering": "refit.learners.clusterer:Clusterer",
    "reduction": "refit.learners.reducer:Reducer",
}
AVERAGED = "refit.learners.averaged:Averaged"  # of any kind, fitted with several seeds


def family(kind: str) -> type[Learner]:
    """The class of a built-in kind.

    Raises:
        UserError: it needs a library that is not installed.
    """
    return load_class(FAMILIES[kind], f"learner {kind!r}")


def load_class(entry: str, needed_for: str = "") -> type[Learner]:
    """Import the class that `module:Class` names.

    Raises:
        UserError: it needs a library that is not installed.
    """
    module, _, name = entry.partition(":")
    try:
        cls: type[Learner] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if missing := not_installed(error, needed_for or f"a learner of class {name}", "params.yaml: train.learners"):
            raise missing from None
        raise
    return cls
