"""Models and drift detectors of river, by import path; the only module that imports river."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from refit.config import nearest
from refit.config.train import Arguments
from refit.errors import RefitError, UserError, message_of
from refit.extras import install_extra
from refit.files.artifacts import read_json
from refit.learners.contract import Floats, Spec
from refit.learners.encoding import Encoding
from refit.learners.online import river_json
from refit.learners.online.params import DetectorParams
from refit.learners.online.vectors import Vectors
from refit.schemas.online_state import RiverState

FILE = "river.json"
DETECTORS = {"adwin": "river.drift.ADWIN", "page_hinkley": "river.drift.PageHinkley"}


def river(needed_for: str) -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import river as package
    except ModuleNotFoundError:
        raise UserError(f"{needed_for} needs river, which is not installed: {install_extra('online')}") from None
    return package


def build(kind: str, params: Arguments, *, seed: int, where: str) -> Any:
    """Make an object of river; an argument that is itself one is a mapping with its own `kind` and `params`.

    Raises:
        UserError: river has no such class, or it does not take such an argument.
    """
    import importlib

    river(f"{kind!r}")
    module, _, name = kind.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        names = _names(module)
        raise UserError(f"river has no {kind!r}{nearest(name, names)} ({where}.kind)") from None
    valid_names = [each for each in inspect.signature(cls.__init__).parameters if each != "self"]
    arguments = {"seed": seed} if "seed" in valid_names else {}
    for argument, value in params.items():
        if argument not in valid_names:
            near = nearest(argument, valid_names)
            raise UserError(f"{kind!r} has no argument {argument!r}{near} ({where}.params.{argument})")
        if isinstance(value, Mapping) and "kind" in value:
            within = f"{where}.params.{argument}"
            value = build(str(value["kind"]), value.get("params", {}), seed=seed, where=within)
        arguments[argument] = value
    try:
        return cls(**arguments)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        raise UserError(f"{kind!r}: {message_of(error)} ({where}.params)") from None


def _names(module: str) -> list[str]:
    import importlib

    try:
        return [name for name in vars(importlib.import_module(module)) if name[:1].isupper()]
    except ImportError:
        return []


def detector(entry: str | DetectorParams, where: str) -> tuple[str, Any]:
    """A drift detector and its name: `adwin`, `page_hinkley`, or a mapping with `kind` and `params`."""
    kind, params = (entry, {}) if isinstance(entry, str) else (entry.kind, entry.params)
    path = DETECTORS.get(kind, kind)
    if not path.startswith("river.drift."):
        raise UserError(
            f"detector {kind!r} is unknown{nearest(kind, DETECTORS)}; adwin, page_hinkley and the classes of "
            f"river.drift are known ({where})"
        )
    return path.rpartition(".")[2], build(path, params, seed=0, where=where)


def stored(value: Any) -> JsonValue:
    """An object of river as JSON, after a check that what is read back is the same.

    Raises:
        RefitError: it cannot be stored; the message says why.
    """
    content = river_json.encode(value)
    if river_json.encode(river_json.decode(content)) != content:
        raise RefitError(f"a {type(value).__name__} read back from JSON is not the same")
    return content


class RiverModel:
    """A classifier or regressor of river, given each row as a dict without the missing cells.

    With `scale` it is given the vectors of `Vectors`, numbers alone and of unit scale, which linear models need.
    """

    safe_format = "json"

    def __init__(
        self, spec: Spec, kind: str, params: Arguments, where: str, *, scale: bool = False, stored: bool = False
    ) -> None:
        self._spec, self._kind, self._scale = spec, kind, scale
        if stored:
            return
        self._blank: Any = build(kind, params, seed=spec.seed, where=where)
        base = river(kind).base
        wanted = base.Regressor if spec.task == "regression" else base.Classifier
        if not issubclass(type(self._blank), wanted):
            raise UserError(
                f"learner 'online': {kind} is no {wanted.__name__.lower()}; train.task is {spec.task!r} ({where}.kind)"
            )

    def start(self, encoding: Encoding) -> None:
        """Forget everything, and take rows of this encoding from now on."""
        self.vectors = Vectors(encoding)
        self._encoding = encoding
        self.model: Any = copy.deepcopy(getattr(self, "_blank", None))

    def predict(self, matrix: Floats) -> Floats:
        """Predictions of encoded rows, in the shape of the task."""
        problem = self._spec.problem
        predicted = np.zeros(problem.shape(len(matrix)))
        if self._spec.task == "regression":
            for index, row in enumerate(self._rows(matrix)):
                predicted[index] = self.model.predict_one(row)
            return predicted
        classes = range(max(2, len(self._spec.classes)))
        for index, row in enumerate(self._rows(matrix)):
            given = self.model.predict_proba_one(row)
            shares = np.array([float(given.get(code, 0.0)) for code in classes])
            total = shares.sum()
            shares = np.full(len(classes), 1 / len(classes)) if total == 0 else shares / total
            predicted[index] = shares if problem.classes else shares[1]
        return predicted

    def learn(self, row: Floats, label: float) -> None:
        """Learn an encoded row, shape (columns,)."""
        if self._scale:
            self.vectors.learn(row)
        target = float(label) if self._spec.task == "regression" else int(label)
        self.model.learn_one(next(self._rows(row[None])), target)

    def _rows(self, matrix: Floats) -> Iterator[dict[int, Any]]:
        """Each row as a dict without its missing cells: a scaled vector, or numbers and categories.

        The keys are the indices of the features, and a category is the tuple of its code, which river takes for no
        number: it puts both into sets, whose order differs between processes if they hold texts.
        """
        if self._scale:
            for vector in self.vectors.of(matrix).tolist():
                yield {index: value for index, value in enumerate(vector) if value}
            return
        words = [name in self._encoding.categories for name in self._encoding.features]
        for row in matrix.tolist():
            cells = enumerate(zip(row, words, strict=True))
            yield {index: (int(value),) if word else value for index, (value, word) in cells if value == value}

    def learned(self) -> Any:
        """Everything that decides predictions."""
        try:
            model = river_json.encode(self.model)
        except RefitError:  # it is compared with others, and never stored
            model = self.model
        return {"vectors": self.vectors.state().to_json(), "model": model}

    def unsafe_reason(self) -> str | None:
        try:
            stored(self.model)
        except (RefitError, RecursionError) as error:
            return f"river's {type(self.model).__name__} cannot be stored as JSON: {message_of(error)}"
        return None

    def save(self, folder: Path) -> None:
        state = RiverState(river=river(self._kind).__version__, vectors=self.vectors.state())
        content = {**state.to_json(), "model": stored(self.model)}
        (folder / FILE).write_text(json.dumps(content, allow_nan=False), encoding="utf-8")

    def load(self, folder: Path, trusted_types: tuple[str, ...]) -> None:
        content = dict(read_json(folder / FILE))
        model = content.pop("model")
        state = RiverState.from_json(content, str(folder / FILE))
        installed = river(f"the model in {folder}").__version__
        if state.river.split(".")[:2] != installed.split(".")[:2]:
            raise RefitError(
                f"{folder / FILE} was written by river {state.river}, {installed} is installed: install that one, "
                "or train again"
            )
        self.vectors.restore(state.vectors)
        self.model = river_json.decode(model)
