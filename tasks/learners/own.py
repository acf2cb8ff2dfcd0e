"""A learner of the user's own: a class with four verbs, from a file of her project or from a package she installed."""

from __future__ import annotations

import ast
import hashlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.artifacts import digest, write_json, write_manifest
from tasks.context import Progress, silent
from tasks.errors import RefitError, UserError
from tasks.learners import (
    DESCRIPTION,
    Declaration,
    FitReport,
    Floats,
    Labels,
    Spec,
    canonical,
    check_labels,
    describe,
    described,
    safe,
)
from tasks.learners.encoding import numbers, texts
from tasks.learners.imports import find
from tasks.params import file_of, nearest

if TYPE_CHECKING:
    import pyarrow as pa

CODE = "code"  # folder of a stored model that holds the file its class came from
FILES = "own"  # and the one that holds what the class itself has written
VERBS = ("fit", "predict", "save", "load")


def is_learner(found: type) -> bool:
    """Whether a class has the four verbs, and is no estimator that only fits and predicts."""
    return all(callable(getattr(found, verb, None)) for verb in VERBS)


def read_source(project: Path, kind: str, where: str = "") -> str:
    """The text of the project's file that a kind names; empty for a kind that names none.

    Args:
        where: the address of the kind, for errors.

    Raises:
        UserError: there is no such file in the project, it imports another one of the project's, or a class of the
            project is named by an import path.
    """
    at = f" ({where})" if where else ""
    if (name := file_of(kind)) is None:
        module, _, class_name = kind.replace(":", ".").rpartition(".")
        if module and (project / f"{module}.py").is_file():
            raise UserError(
                f"learner {kind!r} is in a file of the project: write it {module}.py:{class_name}, so that a change of "
                f"it trains anew and its models are stored with it{at}"
            )
        return ""
    path = (project / name).resolve()
    if not path.is_relative_to(project.resolve()) or not path.is_file():
        have = [found.relative_to(project).as_posix() for found in project.glob("*.py")]
        raise UserError(f"learner {kind!r}: there is no file {name} in the project {project}{nearest(name, have)}{at}")
    source = path.read_text(encoding="utf-8")
    for imported in _imported(source, kind, at):
        if (project / f"{imported}.py").is_file() or (project / imported / "__init__.py").is_file():
            raise UserError(
                f"learner {kind!r}: {name} imports {imported} of the project, which is not stored with its models; "
                f"keep the learner in one file, or install what it needs as a package{at}"
            )
    return source


def _imported(source: str, kind: str, at: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError as error:
        raise UserError(f"learner {kind!r}: line {error.lineno}: {error.msg}; correct the file{at}") from None
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def module_of(kind: str, source: str, where: str) -> ModuleType:
    """The module made of a project's file, under a name that tells its content: other code is another module.

    Raises:
        UserError: it cannot be imported.
    """
    name = f"_refit_own_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = file_of(kind)
    sys.modules[name] = module
    try:
        exec(compile(source, str(module.__file__), "exec"), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"learner {kind!r} cannot be imported: {_told(error, module.__file__)} ({where}.kind)"
        ) from error
    return module


def trusted(spec: Spec) -> tuple[str, ...]:
    """The types that a stored model may hold: those trusted by name, and with a trusted file those it defines."""
    if not spec.source or spec.kind not in spec.trusted_types:
        return spec.trusted_types
    module = module_of(spec.kind, spec.source, spec.name)
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return (*spec.trusted_types, *(f"{module.__name__}.{name}" for name in own))


def obstacle(spec: Spec) -> str | None:
    """Why a class of the user's own is not loaded from a stored model; none: she has named it as trusted."""
    if spec.kind in spec.trusted_types:
        return None
    runs = f"runs the copy of {file_of(spec.kind)} stored with it" if spec.source else "imports it by name"
    return f"loading it {runs}, so it has to be named: registry.trusted_types: [{spec.kind!r}]"


def keep_code(spec: Spec, folder: Path) -> None:
    """Store the file that the class came from beside what was learned."""
    if spec.source:
        path = folder / CODE / Path(str(file_of(spec.kind))).name
        path.parent.mkdir()
        path.write_text(spec.source, encoding="utf-8")


def kept_code(kind: str, folder: Path, trusted_types: tuple[str, ...]) -> str:
    """The text of the file that was stored with a model; empty for a kind that names none. Nothing is run.

    Raises:
        RefitError: the kind is not trusted, or the model holds no such file.
    """
    if (name := file_of(kind)) is None:
        return ""
    if kind not in trusted_types:
        raise RefitError(
            f"{folder} holds a learner of the project's own, {kind!r}; loading it runs the copy of {name} stored with "
            f"it: name it, if you trust it, under registry.trusted_types"
        )
    path = folder / CODE / Path(name).name
    if not path.is_file():
        raise RefitError(f"{folder} lacks {CODE}/{path.name}, the code of its learner; restore the folder")
    return path.read_text(encoding="utf-8")


class OwnLearner:
    """A class of four verbs behind the contract: rows checked, its failures told as what they are, its code stored.

    The class is made with the spec. `fit(train, label, *, validation, iterations, progress)` returns a `FitReport` or
    nothing; `predict(table)` an array; `save(folder)` writes its own files, and `load(folder, spec)` reads them. It is
    given the features alone, texts as `string` and numbers as `double`. It may have a `declaration`, and a `digest`.
    """

    def __init__(self, spec: Spec, *, where: str = "params.yaml: train.learners") -> None:
        self.spec = spec
        self.threshold = 0.5
        self._class: Any = find(spec.kind, where, spec.source)
        with self._theirs("__init__"):
            self._inner = self._class(spec)
        self._fitted = False

    @property
    def declaration(self) -> Declaration:
        declared = getattr(self._class, "declaration", Declaration())
        assert isinstance(declared, Declaration)
        return declared

    def fit(
        self,
        train: pa.Table,
        label: Labels,
        *,
        validation: tuple[pa.Table, Labels] | None = None,
        iterations: int | None = None,
        progress: Progress = silent,
    ) -> FitReport:
        check_labels(label, self.spec)
        rows = self._rows(train)
        seen = None if validation is None else (self._rows(validation[0]), validation[1].copy())
        with self._theirs("fit"):
            report = self._inner.fit(rows, label.copy(), validation=seen, iterations=iterations, progress=progress)
        self._fitted = True
        return report if isinstance(report, FitReport) else FitReport()

    def resume(self, *args: Any, **named: Any) -> FitReport:
        raise UserError(
            f"learner {self.spec.name!r} ({self.spec.kind}) cannot go on from what it has learned; "
            "set train.warm_start: null"
        )

    def predict(self, table: pa.Table) -> Floats:
        if not self._fitted:
            raise RefitError(f"learner {self.spec.name!r} was asked to predict before it was fitted")
        rows = self._rows(table)
        if not rows.num_rows:
            return np.empty(self.spec.target.shape(0))
        with self._theirs("predict"):
            return np.array(self._inner.predict(rows), dtype=np.float64)

    def save(self, folder: Path) -> None:
        (folder / FILES).mkdir()
        with self._theirs("save"):
            self._inner.save(folder / FILES)
        keep_code(self.spec, folder)
        write_json(folder / DESCRIPTION, describe(self))
        write_manifest(folder)

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any], trusted_types: tuple[str, ...]) -> OwnLearner:
        learner = cls(described(description, trusted_types))
        learner.threshold = float(description["threshold"])
        with learner._theirs("load"), safe.no_pickle():
            learner._inner = learner._class.load(folder / FILES, learner.spec)
        learner._fitted = True
        return learner

    def obstacle(self) -> str | None:
        if self.declaration.safe_format is None:
            return "it declares no safe_format, the kind of file that it is stored in without pickle"
        return obstacle(self.spec)

    def digest(self) -> str:
        given = getattr(self._inner, "digest", None)
        learned = {name: part for name, part in vars(self._inner).items() if name != "spec"}
        with self._theirs("digest"):
            model = given() if callable(given) else canonical.digest(learned)
        code = hashlib.sha256(self.spec.source.encode()).hexdigest()
        parts = {"features": list(self.spec.features), "threshold": self.threshold.hex(), "code": code}
        return digest({"kind": self.spec.kind, "model": model, **parts})

    def _rows(self, table: pa.Table) -> pa.Table:
        """The features alone, each of the type that it has to be."""
        import pyarrow as pa

        words = {*self.spec.categorical, *self.spec.text}
        read = {name: texts if name in words else numbers for name in self.spec.features}
        return pa.table({name: column(table, name) for name, column in read.items()})

    @contextmanager
    def _theirs(self, verb: str) -> Iterator[None]:
        """Tell a failure of the user's class as hers, with the line."""
        try:
            yield
        except RefitError:
            raise
        except Exception as error:
            who, said = f"learner {self.spec.name!r} ({self.spec.kind})", _told(error, file_of(self.spec.kind))
            raise UserError(f"{who}: {verb} failed: {said}; correct it, or disable it in train.learners") from error


def _told(error: Exception, file: str | None) -> str:
    """An exception in one line, with the last line of the user's file that it came through."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{said} (line {places[-1]} of {file})" if places else said
