"""Environments of a project, such as staging: `params.staging.yaml` laid over `params.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from refit.errors import RefitError, UserError
from refit.files.artifacts import digest
from refit.files.yaml_files import YamlTree, read_yaml

VARIABLE = "REFIT_ENV"
PARAMS = "params.yaml"
_NAME = re.compile("[a-z][a-z0-9_-]{0,40}")
_COMMAND = re.compile(r"`refit (?!--env |--project |init\b)(?=[a-z])")  # of Refit, in a message
_REFERENCE = re.compile(r"\$\{(\w+)\}")  # to a variable, in an address


def current() -> str | None:
    """The environment that this process works in: `REFIT_ENV`, or `refit --env`. None for `params.yaml` alone.

    Raises:
        UserError: its name is no plain word.
    """
    name = os.environ.get(VARIABLE) or None
    if name is not None and not _NAME.fullmatch(name):
        raise UserError(f"{VARIABLE} {name!r} is no name of an environment: expected a word such as staging")
    return name


def command(words: str) -> str:
    """A command of Refit as a person types it for the models of this process's environment.

    >>> with working_in("staging"):
    ...     command("show")
    'refit --env staging show'
    """
    return f"refit --env {name} {words}" if (name := os.environ.get(VARIABLE)) else f"refit {words}"


def addressed(text: str) -> str:
    """A message whose commands, in backticks, name this process's environment; those that name one stay as they are.

    >>> with working_in("staging"):
    ...     addressed("no champion; `refit run` trains one, `refit --env production show` shows that one")
    'no champion; `refit --env staging run` trains one, `refit --env production show` shows that one'
    """
    return _COMMAND.sub(lambda _: f"`{command('')}", text)


@contextmanager
def working_in(environment: str) -> Iterator[None]:
    """Work in an environment for a block, child processes included; errors of the block name it in their commands."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = environment
    try:
        yield
    except RefitError as error:
        error.args = tuple(addressed(str(each)) for each in error.args)
        raise
    finally:
        os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before})


def overlay_file(project: Path, environment: str) -> Path:
    """The params of an environment.

    Raises:
        UserError: the project has none for it.
    """
    path = project / _file_name(environment)
    if not path.is_file():
        others = sorted(each.name.split(".")[1] for each in project.glob("params.*.yaml"))
        raise UserError(
            f"{project} has no {path.name}: write into it what is different in {environment}; "
            f"environments with such a file: {', '.join(others) or 'none'}"
        )
    return path


def own_name() -> str:
    """The name of the file that says what is different here: `params.yaml`, or that of the environment."""
    return _file_name(name) if (name := current()) else PARAMS


def _file_name(environment: str) -> str:
    return f"params.{environment}.yaml"


def files(project: Path) -> list[Path]:
    """The files that the params of this process's environment come from."""
    name = current()
    return [project / PARAMS, *([overlay_file(project, name)] if name else [])]


def layered(project: Path) -> YamlTree:
    """The project's params, with those of the current environment laid over them.

    Raises:
        UserError: a file cannot be read, or the environment's models would share a registry or a ledger with others of
            their name.
    """
    base, *overlays = files(project)
    raw = read_yaml(base)
    if not overlays:
        return raw
    (own,) = overlays
    merged = laid_over(raw, _overlay(own))
    _require_apart(project, own.name, merged, base.name, raw)
    for other in sorted(project.glob("params.*.yaml")):
        if other != own:
            _require_apart(project, own.name, merged, other.name, laid_over(raw, _overlay(other)))
    return merged


def _overlay(path: Path) -> YamlTree:
    return read_yaml(path, f"write into it what is different in {path.name.split('.')[1]}")


def _require_apart(project: Path, name: str, own: YamlTree, other_name: str, other: YamlTree) -> None:
    """Refuse two environments whose models have one name and would share the champion's alias or the ledger.

    Raises:
        UserError: they would.
    """
    if value_of(own, "project.name") != value_of(other, "project.name"):
        return
    (registry, ledger), (other_registry, other_ledger) = _stores(project, own), _stores(project, other)
    if shared := "registry" if registry == other_registry else "ledger" if ledger == other_ledger else None:
        raise UserError(
            f"{name}: has the {shared} and the project.name of {other_name}, so the two would have one champion; give "
            "it another project.name, or another registry.tracking_uri and ledger: SQLite in a folder of its own, or "
            "another registry.ledger_uri"
        )


def _stores(project: Path, raw: YamlTree) -> tuple[str, str]:
    """The addresses of the registry and the ledger that params name, whatever this process's variables are."""
    from registry.store import RegistryError, locate

    uri, ledger_uri = (str(value_of(raw, f"registry.{key}") or "") for key in ("tracking_uri", "ledger_uri"))
    if _REFERENCE.match(ledger_uri):  # the variable holds the kind of database as well, of which there is one
        ledger_uri = f"postgresql://{ledger_uri}"
    uri, ledger_uri = (_REFERENCE.sub(r"\1", each) for each in (uri, ledger_uri))
    try:
        store = locate(project, uri, {}, ledger_uri=ledger_uri)
    except RegistryError as error:
        raise UserError(str(error)) from None
    return store.uri, store.ledger_url


def laid_over(base: YamlTree, over: YamlTree) -> YamlTree:
    """Lay params over others: sections key by key, all else as a whole.

    >>> laid_over({"train": {"seed": 0, "text": 1}, "cost": {}}, {"train": {"seed": 3}})
    {'train': {'seed': 3, 'text': 1}, 'cost': {}}
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def value_of(raw: YamlTree, name: str) -> object:
    """The value of `section.key`; None if it is not there.

    >>> value_of({"train": {"seed": 3}}, "train.seed")
    3
    """
    value: object = raw
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def overlay_digest(project: Path, sections: Sequence[str]) -> str | None:
    """Digest of what the environment changes in sections; None if it changes nothing: DVC sees `params.yaml` alone."""
    if current() is None:
        return None
    base, now = read_yaml(project / PARAMS), layered(project)
    changed = {name: value_of(now, name) for name in sections if value_of(now, name) != value_of(base, name)}
    return digest(changed) if changed else None
