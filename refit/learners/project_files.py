"""Learners in a Python file of the project: reads the file, runs it as a module, and stores it with the model."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from refit.config import file_of, nearest
from refit.errors import RefitError, UserError
from refit.extras import not_installed
from refit.learners.contract import Spec
from refit.problems.project_module import failure, project_module

__all__ = [
    "CODE",
    "failure",
    "is_keras",
    "module_of",
    "objects_of",
    "read_source",
    "read_sources",
    "store_code",
    "stored_code",
    "trusted",
    "unsafe_reason",
    "untrusted_code",
    "user_errors",
]

CODE = "code"  # folder of a stored model with the file that defines its class


def read_source(project: Path, kind: str, where: str = "") -> str:
    """Read the project's file that a kind names; empty if the kind names no file.

    Args:
        where: the address of the kind in the params, for errors.

    Raises:
        UserError: the project has no such file, the file imports another file of the project, or the kind names a
            class of the project by an import path.
    """
    at = f" ({where})" if where else ""
    if (name := file_of(kind)) is None:
        module, _, class_name = kind.replace(":", ".").rpartition(".")
        if module and (project / f"{module}.py").is_file():
            raise UserError(
                f"learner {kind!r} is in a file of the project: write it {module}.py:{class_name}, so that a change of "
                f"it trains again and its models are stored with it{at}"
            )
        return ""
    path = (project / name).resolve()
    if not path.is_relative_to(project.resolve()) or not path.is_file():
        have = [file.relative_to(project).as_posix() for file in project.glob("*.py")]
        raise UserError(f"learner {kind!r}: there is no file {name} in the project {project}{nearest(name, have)}{at}")
    source = path.read_text(encoding="utf-8")
    for imported in _imported(source, kind, at):
        if (project / f"{imported}.py").is_file() or (project / imported / "__init__.py").is_file():
            raise UserError(
                f"learner {kind!r}: {name} imports {imported} of the project, which is not stored with its models; "
                f"keep the learner in one file, or install what it needs as a package{at}"
            )
    return source


def read_sources(project: Path, names: Iterable[str], where: str) -> dict[str, str]:
    """Read the project's files that the options of a problem name, by file.

    Args:
        where: the address of the options in the params, for errors.

    Raises:
        UserError: as `read_source`.
    """
    sources = {str(file_of(name)): read_source(project, name, where) for name in names}
    return {file: source for file, source in sources.items() if source}


def untrusted_code(spec: Spec) -> str | None:
    """The reason why a stored model cannot run the code that its problem's options name; None if it is trusted."""
    options = spec.problem.options
    names = [name for name in (options.code() if options else ()) if name not in spec.trusted_types]
    if not names:
        return None
    return f"loading it runs {' and '.join(names)}, so they have to be named: registry.trusted_types: {names}"


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
    """Run a project's file as a module whose name contains the digest of its text: other code is another module.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return project_module(str(file_of(kind)), source)
    except Exception as error:
        if missing := not_installed(error, f"learner {kind!r}", f"{where}.kind"):
            raise missing from None
        raise UserError(
            f"learner {kind!r} cannot be imported: {failure(error, file_of(kind))} ({where}.kind)"
        ) from error


def is_keras(kind: str, source: str) -> bool:
    """Whether a kind names a function of a project's file, which builds a Keras model; the file is not run.

    >>> is_keras("net.py:build", "def build(shapes, outputs): ..."), is_keras("net.py:Own", "class Own: ...")
    (True, False)
    """
    imports_keras, name = "keras" in _imported(source, kind, ""), kind.rpartition(":")[2]
    statements = ast.parse(source).body
    defined = {each.name: type(each) for each in statements if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    return defined.get(name) is ast.FunctionDef or (imports_keras and defined.get(name) is not ast.ClassDef)


def objects_of(module: ModuleType) -> dict[str, object]:
    """What a file itself defines, by name."""
    return {name: each for name, each in vars(module).items() if getattr(each, "__module__", None) == module.__name__}


def trusted(spec: Spec) -> tuple[str, ...]:
    """The types that a stored model may hold: those trusted by name, and those that a trusted file defines."""
    if not spec.source or spec.kind not in spec.trusted_types:
        return spec.trusted_types
    module = module_of(spec.kind, spec.source, spec.name)
    return (*spec.trusted_types, *(f"{module.__name__}.{name}" for name in objects_of(module)))


def unsafe_reason(spec: Spec) -> str | None:
    """The reason why a user's class cannot be loaded from a stored model; None if the user has trusted it."""
    if spec.kind in spec.trusted_types:
        return None
    runs = f"runs the copy of {file_of(spec.kind)} stored with it" if spec.source else "imports it by name"
    return f"loading it {runs}, so it has to be named: registry.trusted_types: [{spec.kind!r}]"


def store_code(spec: Spec, folder: Path) -> None:
    """Store the file that defines the class with the model."""
    if spec.source:
        path = folder / CODE / Path(str(file_of(spec.kind))).name
        path.parent.mkdir()
        path.write_text(spec.source, encoding="utf-8")


def stored_code(kind: str, folder: Path, trusted_types: tuple[str, ...]) -> str:
    """Read the file that was stored with a model, without running it; empty if the kind names no file.

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


@contextmanager
def user_errors(spec: Spec, verb: str, *, of_file_alone: bool = False) -> Iterator[None]:
    """Report a failure of a user's class as a UserError, with the line of its file.

    Args:
        verb: what the class was doing.
        of_file_alone: for a class of the project, let failures through that no line of its file took part in.
    """
    try:
        yield
    except RefitError:
        raise
    except Exception as error:
        file = file_of(spec.kind)
        if of_file_alone and file and file not in {each.filename for each in traceback.extract_tb(error.__traceback__)}:
            raise
        raise UserError(
            f"learner {spec.name!r} ({spec.kind}): {verb} failed: {failure(error, file)}; correct it, or disable it in "
            "train.learners"
        ) from error
