"""Reads and writes `run.yaml`: the `as_of` and overrides of one run, which leave `params.yaml` unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from refit.config import STAGES, Params, default_of, file_of, override, parse
from refit.config.behaviour import ExamplesTest
from refit.errors import UserError
from refit.files.artifacts import RUN, SNAPSHOT, atomic, digest, sha256
from refit.files.yaml_files import YamlTree, read_yaml
from refit.problems import problem_of
from refit.runtime import environments
from refit.runtime.stage_code import SECTIONS as SECTIONS_OF_STAGE
from refit.runtime.stage_code import code_digest, defaults_digest, own_code
from registry.secrets import holds_literal

Overrides = Mapping[str, JsonValue]  # "section.key" -> value, for one run only

_ABSENT = object()
ADDRESSES = (".tracking_uri", ".ledger_uri", ".path", ".published")
NOT_BY_RUN = ("register.approval.", "register.approval_within.")
OF_ONE_RUN = ("project", "register", "registry", "drift", "cost", "retention")  # which no later command obeys
OF_THE_DATA = ("ingest.", "validate.", "featurize.", "train.task", "train.problem")  # which scoring obeys
OF_DRIFT = (*OF_THE_DATA, "evaluate.confidence", "evaluate.gate.metric")  # which the watch for drift obeys
MAKING = STAGES[: STAGES.index("train") + 1]  # the stages that make a candidate
SECTIONS = ("project", *STAGES, "registry", "drift", "cost", "retention", "resources")


@dataclass(frozen=True)
class RunFile:
    """The settings of one run."""

    as_of: str = "latest"
    overrides: Overrides = field(default_factory=dict)


def read(project: Path) -> RunFile:
    """The settings in the project's `run.yaml`; the defaults if there is none."""
    path = project / RUN
    if not path.is_file():
        return RunFile()
    raw = read_yaml(path)
    sections = raw.get("overrides") or {}
    if not isinstance(sections, Mapping) or not all(isinstance(each or {}, Mapping) for each in sections.values()):
        raise UserError(f"{path.name}: overrides holds no mapping of sections; delete the file, a run writes it")
    overrides = {f"{section}.{key}": value for section, each in sections.items() for key, value in (each or {}).items()}
    return RunFile(as_of=str(raw.get("as_of", "latest")), overrides=overrides)


def write(project: Path, run: RunFile) -> None:
    """Write `run.yaml` if its content changes, so that DVC sees a change only if there is one."""
    sections: dict[str, YamlTree] = {section: {} for section in SECTIONS}
    for name, value in run.overrides.items():
        section, _, key = name.partition(".")
        if section not in sections or not key:
            raise UserError(f"--set {name}: expected SECTION.KEY=VALUE with a section out of {', '.join(SECTIONS)}")
        sections[section][key] = value
    params, path = check(project, run), project / RUN
    sources = environments.overlay_digest(project, ("ingest",))
    _require_same_sources(project, sources)
    content = {
        "as_of": run.as_of,
        "task": params.task,  # affects `featurize` too, which depends on no other param of `train`
        "overrides": sections,
        **({"sources": sources} if sources else {}),
        "code": _with_unseen(_code(project, params), project, params),
        "defaults": _with_unseen({stage: defaults_digest(stage) for stage in STAGES}, project, params),
    }
    text = "# Written by each run; not versioned. `dvc repro` does again what it says.\n" + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True
    )
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic(path) as scratch:
            scratch.write_text(text, encoding="utf-8")


def _require_same_sources(project: Path, sources: str | None) -> None:
    """Refuse to read the sources of one environment into the batches of another.

    Raises:
        UserError: this folder has batches, and its last run had other params of `ingest` by its environment.
    """
    if not ((project / RUN).is_file() and (project / SNAPSHOT).is_file()):
        return
    if read_yaml(project / RUN).get("sources") != sources:
        raise UserError(
            f"the batches in {project / 'data'} are of an environment with other sources than "
            f"{environments.current() or environments.PARAMS}; work in a clone of its own for each environment whose "
            "`ingest` differs"
        )


@contextmanager
def kept_if_refused(project: Path) -> Iterator[None]:
    """Restore `run.yaml`, byte for byte, if the block raises UserError."""
    before = stored(project)
    try:
        yield
    except UserError:
        put_back(project, before)
        raise


@contextmanager
def kept(project: Path) -> Iterator[None]:
    """Restore `run.yaml`, byte for byte, after the block: what is tried there is not the project's last run."""
    before = stored(project)
    try:
        yield
    finally:
        put_back(project, before)


def stored(project: Path) -> bytes | None:
    """The content of `run.yaml`, for `put_back`; None if there is none."""
    path = project / RUN
    return path.read_bytes() if path.is_file() else None


def put_back(project: Path, before: bytes | None) -> None:
    """Make `run.yaml` what it was, byte for byte."""
    path = project / RUN
    if before is None:
        path.unlink(missing_ok=True)
    elif stored(project) != before:
        with atomic(path) as scratch:
            scratch.write_bytes(before)


def params_of(project: Path) -> Params:
    """The params of the run that `run.yaml` is of: for its stages, and for what DVC says of them.

    Raises:
        UserError: the params are invalid; the message lists every problem.
    """
    return check(project, read(project))


def params_outside(project: Path) -> Params:
    """The params for all but a run: of the last run's overrides, they have those of the data in this folder alone.

    Which model, registry, limits and policy a command or a deployed flow obeys, the versioned params say.

    Raises:
        UserError: the params are invalid; the message lists every problem.
    """
    return check(project, RunFile(overrides=standing(read(project).overrides)))


def standing(overrides: Overrides) -> Overrides:
    """The overrides of a run that hold after it: those of how data and model are made, unless it made another model.

    >>> standing({"ingest.sources.trips.path": "trips.csv", "retention.versions": 1})
    {'ingest.sources.trips.path': 'trips.csv'}
    >>> standing({"ingest.sources.trips.path": "trips.csv", "project.name": "experiment"})
    {}
    """
    if "project.name" in overrides:
        return {}
    return {name: value for name, value in overrides.items() if name.partition(".")[0] not in OF_ONE_RUN}


def check(project: Path, run: RunFile) -> Params:
    """The params that `run` would use, without writing anything."""
    if fixed := sorted(name for name in run.overrides if f"{name}.".startswith(NOT_BY_RUN)):
        raise UserError(f"{fixed[0]} is no setting of one run: who approves a promotion is decided in params.yaml")
    wanted = override(environments.layered(project), run.overrides)
    raw = read_yaml(project / environments.PARAMS)
    name = " with ".join(path.name for path in environments.files(project))
    return parse(wanted, name=name, also=[*_not_written(project, raw), *_secrets(wanted)])


def _secrets(value: Any, path: str = "") -> Iterator[str]:
    """Find params that hold a password or a token: the file is committed, and every model holds a copy of it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets(inner, f"{path}[{index}]")
    elif isinstance(value, str) and holds_literal(value, address=path.endswith(ADDRESSES)):
        yield f"{path}: holds a password or a token; write ${{NAME}} in its place and set NAME in the environment"


def _not_written(project: Path, raw: YamlTree) -> Iterator[str]:
    """Find missing params that dvc.yaml depends on: DVC needs them in the file even if they have the default value."""
    path = project / "dvc.yaml"
    stages = _stages(path) if path.exists() else ()
    names = {str(name) for stage in stages for name in stage.get("params") or () if isinstance(name, str)}
    for name in sorted(names):
        section, _, key = name.partition(".")
        if any(other.startswith(f"{name}.") for other in names) and section not in raw:
            continue  # the missing key inside it is reported for both
        value: Any = raw
        for part in name.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is _ABSENT and (default := default_of(section, key)) is not None:
            yield f"{name}: is missing, and dvc.yaml depends on it; write `{key or section}: {default}`"


def _stages(path: Path) -> list[YamlTree]:
    """The stages in dvc.yaml.

    Raises:
        UserError: it has none, or they do not have the form that DVC expects.
    """
    stages = read_yaml(path).get("stages")
    if not isinstance(stages, Mapping):
        raise UserError(f"{path.name}: stages holds {type(stages).__name__}, a mapping of stages was expected")
    for name, stage in stages.items():
        if not isinstance(stage, Mapping):
            raise UserError(f"{path.name}: stages.{name} holds {type(stage).__name__}, a mapping was expected")
        for key in ("deps", "params", "outs"):
            if not isinstance(stage.get(key, []), list):
                kind = type(stage[key]).__name__
                raise UserError(f"{path.name}: stages.{name}.{key} holds {kind}, a list was expected")
    return list(stages.values())


def _code(project: Path, params: Params) -> dict[str, str]:
    """Digest of the code of each stage: Refit's files, and the project's features and learners."""
    digests = {stage: code_digest(stage) for stage in STAGES}
    for stage, names in _names(params).items():
        if own := own_code(project, names):
            digests[stage] = digest([digests[stage], *(sha256(path) for path in own)])[:16]
    if examples := [path for name in _examples(params) if (path := project / name).is_file()]:
        digests["evaluate"] = digest([digests["evaluate"], *map(sha256, examples)])[:16]
    return digests


def _examples(params: Params) -> Iterator[str]:
    """The files with rows that behavioural tests name."""
    for each in params.evaluate.behaviour:
        if isinstance(each, ExamplesTest) and each.file:
            yield each.file


def _with_unseen(digests: dict[str, str], project: Path, params: Params) -> dict[str, str]:
    """Digests by stage, together with the params that the stage has and that DVC does not see in `params.yaml`."""
    for stage in STAGES:
        unseen = [environments.overlay_digest(project, SECTIONS_OF_STAGE[stage])]
        if stage == "evaluate" and params.register_.remarks:  # of which the decision and the card have a note
            unseen.append(digest(params.register_.remarks))
        if any(unseen):
            digests[stage] = digest([digests[stage], *unseen])[:16]
    return digests


def recipe_digest(project: Path, params: Params) -> str:
    """Digest of the code and the params by which a candidate is made of what the sources deliver."""
    values = params.model_dump(mode="json", by_alias=True)
    code = _code(project, params)
    sections = {
        stage: [reduce(getitem, name.split("."), values) for name in SECTIONS_OF_STAGE[stage]] for stage in MAKING
    }
    reading = [[str(each.relative_to(project)), sha256(each)] for each in own_code(project, _code_of_sources(params))]
    return digest({"reading": reading, **{stage: [code[stage], sections[stage]] for stage in MAKING}})[:16]


def code_files(project: Path) -> list[Path]:
    """The project's files that affect what a run computes: its settings, and all code that they name."""
    params = params_of(project)
    own = own_code(project, [*_code_of_sources(params), *(name for names in _names(params).values() for name in names)])
    return [*environments.files(project), project / "dvc.yaml", *own]


def _code_of_sources(params: Params) -> list[str]:
    """The files of the project that read its sources, or make stand-ins for them."""
    sources = params.ingest.sources.values()
    return [*filter(None, (each.stand_in for each in sources)), *(each.kind for each in sources if file_of(each.kind))]


def _names(params: Params) -> dict[str, list[str]]:
    """The files, modules and classes that stages import from a project."""
    return {
        "featurize": [params.featurize.definitions or ""],
        "train": [*_kinds(params.train.model_dump(include={"learners", "text"})), *_code_of_problem(params)],
    }


def _code_of_problem(params: Params) -> tuple[str, ...]:
    """What the options of the problem name."""
    options = problem_of(params.train.task, options=params.train.problem).options
    return options.code() if options else ()


def _kinds(value: Any) -> Iterator[str]:
    """Every `kind` in some params: those of learners, and those nested in their arguments."""
    if isinstance(value, Mapping):
        if isinstance(kind := value.get("kind"), str) and value.get("enabled", True):
            yield kind
        value = value.values() if value.get("enabled", True) else ()
    if not isinstance(value, str):
        for each in value if isinstance(value, Iterable) else ():
            yield from _kinds(each)
