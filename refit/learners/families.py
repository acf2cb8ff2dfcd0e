"""Built-in learner families by kind; each module is imported only when it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping

from refit.config.train import LearnerParams, flat
from refit.extras import EXTRA_OF, not_installed
from refit.learners.contract import Learner
from refit.learners.networks.architectures import ARCHITECTURES

FAMILIES: Mapping[str, str] = {
    "baseline": "refit.learners.baseline:Baseline",
    **dict.fromkeys(ARCHITECTURES, "refit.learners.networks.network:Network"),
    "policy": "refit.learners.networks.policies.learner:Policy",
    "transformer": "refit.learners.networks.transformer.learner:Transformer",
    "torch_tabular": "refit.learners.torch_tabular:TorchTabular",
    "relative": "refit.learners.relative:Relative",
    "per_group": "refit.learners.per_group:PerGroup",
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
NEEDS: Mapping[str, str] = {  # the library that a built-in kind cannot do without; none of them is part of the core
    **{kind: "torch" for kind, entry in FAMILIES.items() if "networks" in entry or "torch" in entry},
    "policy": "stable_baselines3",
    "fp_growth": "mlxtend",
    "online": "river",
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


def require_installed(learner: LearnerParams, where: str) -> None:
    """Check that the libraries which a learner, and learners within it, need are there, without importing them.

    Args:
        where: the address of the learner in the params, for errors.

    Raises:
        UserError: one is not installed; the message has the command that installs it.
    """
    for kind in _kinds(learner):
        module = NEEDS.get(kind, kind.partition(".")[0])
        if module in EXTRA_OF and not _is_installed(module):
            missing = not_installed(ModuleNotFoundError(name=module), f"learner {kind!r}", where)
            assert missing is not None
            raise missing


def _kinds(learner: LearnerParams) -> Iterator[str]:
    yield learner.kind
    for name, value in flat(learner.params).items():
        if name.rpartition(".")[2] == "kind" and isinstance(value, str):
            yield value


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False
