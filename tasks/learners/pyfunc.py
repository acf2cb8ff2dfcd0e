"""Lets mlflow load a stored learner (its `loader_module` flavour) without mlflow being imported here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.learners import Floats, Learner, load

if TYPE_CHECKING:
    import pandas as pd


class TableModel:
    """A learner that takes pandas frames."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def predict(self, frame: pd.DataFrame, params: Mapping[str, Any] | None = None) -> Floats | pd.DataFrame:
        """(rows,) probabilities of 1 or numbers, or a column of probabilities for each class.

        The frame's columns may come in any order, surplus ones are ignored.
        """
        import pandas as pd
        import pyarrow as pa

        features = [name for name in self._learner.spec.features if name in frame.columns]
        predicted = self._learner.predict(pa.Table.from_pandas(frame[features], preserve_index=False))
        classes = self._learner.spec.classes
        return pd.DataFrame(predicted, columns=list(classes)) if classes else predicted


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> TableModel:
    """The learner in a folder. `model_config={"trusted_types": [...]}` allows types besides ours; the folder cannot."""
    trusted = tuple((model_config or {}).get("trusted_types", ()))
    return TableModel(load(Path(path), trusted_types=trusted))
