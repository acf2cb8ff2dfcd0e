"""Lets MLflow load a stored learner (its `loader_module` flavour) without importing MLflow here."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refit.config.column_types import ArrayColumn
from refit.errors import UserError
from refit.learners import load
from refit.learners.contract import Floats, Learner
from refit.problems import output_names

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class TableModel:
    """A learner that predicts pandas frames."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __repr__(self) -> str:
        spec = self._learner.spec
        return f"<{type(self._learner).__name__}, {spec.task}, of {len(spec.features)} features>"

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that the learner uses."""
        return self._learner.spec.features

    def predict(self, frame: pd.DataFrame, params: Mapping[str, object] | None = None) -> Floats | pd.DataFrame:
        """(rows,) probabilities of 1 or numbers, or a column for each class or each part of a prediction (`parts`).

        The frame's columns may come in any order; surplus columns are ignored. A number may have any type that
        `read_csv` or a database gives (int64, Int64, bool, Decimal, nullable, a category of numbers), as long as a
        double holds it exactly; a text may be object, string or a category. An image is its bytes, their base64 or an
        array of whole numbers from 0 to 255; a vector a list or an array of numbers, and a sequence a list of these.

        Raises:
            UserError: a column is missing, or holds a value that the conversion would change.
        """
        import pandas as pd

        predicted = self._learner.predict(table_of(frame, self._learner))
        columns = output_names(self._learner.spec.task, self._learner.spec.classes)
        return pd.DataFrame(predicted, columns=list(columns)) if columns else predicted

    def act(self, observation: Any) -> Any:
        """The action of a policy for one observation of its environment.

        Raises:
            UserError: the model is no policy.
        """
        act: Callable[[Any], Any] | None = getattr(self._learner, "act", None)
        if act is None:
            raise UserError(f"a model of task {self._learner.spec.task!r} takes no actions; call predict(frame)")
        return act(observation)


def table_of(frame: pd.DataFrame, learner: Learner) -> pa.Table:
    """The features of a frame as a table, with exactly the values that they have in pandas.

    Raises:
        UserError: a column holds a value of another type, or a number that a double cannot hold exactly.
    """
    import pyarrow as pa

    spec = learner.spec
    columns = {}
    for name in spec.features:
        if name in frame.columns:
            column = frame[name]
            if getattr(column, "ndim", 1) != 1:
                raise UserError(f"column {name!r} is there {column.shape[1]} times; once was expected")
            if name in spec.arrays:
                convert = partial(CELLS[spec.arrays[name].kind], spec.arrays[name])
                columns[name] = pa.array(_converted(column, convert), _type_of(spec.arrays[name]))
                continue
            is_text = name in spec.categorical or name in spec.text
            columns[name] = pa.array(
                _converted(column, _text if is_text else _number), pa.string() if is_text else pa.float64()
            )
    return pa.table(columns) if columns else pa.table({}).select([])


def _converted(column: pd.Series, convert: Callable[[Any], Any]) -> Any:
    """Convert each value of a column; columns of plain numbers need no loop."""
    import numpy as np
    import pandas as pd

    if convert is _number and isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub":
        plain = column.to_numpy()
        if plain.dtype.kind in "fb" or not len(plain) or max(-int(plain.min()), int(plain.max())) <= 2**53:
            return plain.astype(np.float64)
    values = column.astype(object).to_numpy()
    empty = pd.isna(values)
    converted = np.full(len(values), None, dtype=object)
    for row in np.flatnonzero(~empty):
        try:
            converted[row] = convert(values[row])
        except ValueError as error:
            raise UserError(f"column {column.name!r}, row {row}: {error} (the column is {column.dtype})") from None
    return converted


def _number(value: Any) -> float:
    """Convert a number to the double that equals it.

    >>> _number(True), _number(2**53), _number(Decimal("0.1"))
    (1.0, 9007199254740992.0, 0.1)
    """
    import numpy as np

    if isinstance(value, bool | np.bool_):
        return float(value)
    if not isinstance(value, int | float | Decimal | np.integer | np.floating):
        raise ValueError(f"{_shown(value)} is no number, which the model was trained on; convert it first")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    whole = isinstance(value, int | np.integer) or (isinstance(value, Decimal) and value == value.to_integral_value())
    if whole and (math.isinf(number) or int(number) != int(value)):
        raise ValueError(
            f"{_shown(value)} is more than a double can hold exactly (2^53); it would become another number"
        )
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            f"{_shown(value)} is no text, which the model was trained on: 1 and '01' would be one; read the column as "
            "text, such as read_csv(..., dtype={'zip': str})"
        )
    return str(value)


def _type_of(array: ArrayColumn) -> pa.DataType:
    import pyarrow as pa

    vector = pa.list_(pa.float64())
    return {"image": pa.large_binary(), "vector": vector, "sequence": pa.list_(vector)}[array.kind]


def _image(array: ArrayColumn, value: Any) -> bytes:
    """The bytes of an image, given as these, as their base64 (MLflow's JSON), or as an array of numbers from 0 to 255.

    >>> _image(ArrayColumn(kind="image", shape=(1, 2, 1)), [[0, 255]])
    b'\\x00\\xff'
    """
    import numpy as np

    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except ValueError:
            raise ValueError(f"{_shown(value)} is no {array}: a text is its bytes in base64") from None
    found = np.asarray(value)
    if found.dtype.kind not in "iu" or not found.size or found.min() < 0 or found.max() > 255:
        raise ValueError(f"{_shown(value)} is no {array}: its bytes, or an array of whole numbers from 0 to 255")
    shapes = {array.shape, (array.size,), array.shape[:2] if array.shape[2] == 1 else array.shape}
    if found.shape not in shapes:
        raise ValueError(f"an array of shape {found.shape} is no {array}")
    return found.astype(np.uint8).tobytes()


def _vector(array: ArrayColumn, value: Any) -> Floats:
    """The numbers of a list or an array, with nan for missing ones.

    >>> _vector(ArrayColumn(kind="vector", shape=(2,)), [1, None])
    array([ 1., nan])
    """
    import numpy as np

    if isinstance(value, str | bytes) or np.ndim(value) != 1:
        raise ValueError(f"{_shown(value)} is no list of numbers, as {array} has it")
    return np.array([math.nan if each is None else _number(each) for each in value], dtype=np.float64)


def _sequence(array: ArrayColumn, value: Any) -> list[Floats]:
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        raise ValueError(f"{_shown(value)} is no list of steps, as {array} has it")
    return [_vector(array, step) for step in value]


CELLS: Mapping[str, Callable[[ArrayColumn, Any], Any]] = {"image": _image, "vector": _vector, "sequence": _sequence}


def _shown(value: Any) -> str:
    shown = str(value) if isinstance(value, int | float | Decimal) or hasattr(value, "item") else repr(value)
    return f"{shown[:60]} ({type(value).__name__})"


def _load_pyfunc(path: str, model_config: Mapping[str, Sequence[str]] | None = None) -> TableModel:
    """Load the learner in a folder. Only `model_config={"trusted_types": [...]}` can allow further types."""
    trusted = tuple((model_config or {}).get("trusted_types", ()))
    return TableModel(load(Path(path), trusted_types=trusted))
