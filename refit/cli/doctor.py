"""Checks of the environment, the project and its services, for `refit doctor`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows import retrain_dedup
from flows.committed_code import uncommitted_remark
from flows.retraining_policy import never_retrains
from flows.services.service_state import read_record
from flows.session import context_of
from refit.cli.inspection import champion_summary
from refit.config import Params
from refit.errors import RefitError, counted, refused_by_the_system
from refit.files.artifacts import STATE
from refit.runtime import dvc_remote, environments, lock, registry_store, run_file
from refit.runtime.context import utc_now
from refit.runtime.stage_code import SOURCE_ROOT
from refit.runtime.terminal import Terminal, line

OLDEST, NEWEST = (3, 11), (3, 14)  # Python, as pyproject.toml says
CORE = ("prefect", "mlflow", "dvc", "great-expectations", "scikit-learn", "duckdb")
INSTALL = "make setup; from a wheel: install Refit again, into an environment of its own"


@dataclass(frozen=True)
class Finding:
    """One result of `refit doctor`."""

    level: Literal["ok", "warning", "error"]
    what: str
    advice: str = ""


def print_findings(findings: list[Finding]) -> None:
    """Print the findings of `refit doctor`."""
    console = Terminal()
    style = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        advice = f" → {finding.advice}" if finding.advice else ""
        console.print(line((f"{finding.level:<7}", style[finding.level]), f" {finding.what}{advice}"))


def examine(project: Path) -> list[Finding]:
    """Check the environment, the project and its services; return all findings."""
    parts = (_python(), _libraries(), _shadowing(), _project(project), _services(project))
    return [finding for part in parts for finding in _until_unreadable(part)]


def _until_unreadable(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings up to the first file that the system does not let us read."""
    try:
        yield from findings
    except OSError as error:
        yield Finding("error", refused_by_the_system(error) or str(error))


def _python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    fits = OLDEST <= sys.version_info[:2] <= NEWEST
    advice = f"Refit runs on Python 3.{OLDEST[1]} to 3.{NEWEST[1]}: remove .venv, then make setup PYTHON=/path/to/one"
    yield Finding("ok" if fits else "error", f"Python {version}", "" if fits else advice)
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Finding(
            "warning", "PYTHONDONTWRITEBYTECODE is set", "unset it: imports are 2-4 times slower without bytecode"
        )
    git = shutil.which("git")
    yield Finding(
        "ok" if git else "warning", f"git {'at ' + git if git else 'is missing'}", "" if git else "install git"
    )


def _libraries() -> Iterator[Finding]:
    installed = {each: _version(each) for each in _required()}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        yield Finding("error", f"missing: {', '.join(missing)}", INSTALL)
    outside = [
        f"{name} {installed[name]} (Refit needs {needed})"
        for name, needed in _required().items()
        if (version := installed[name]) and not needed.contains(version, prereleases=True)
    ]
    if outside:
        yield Finding("error", f"of a release that Refit does not know: {', '.join(outside)}", INSTALL)
    different = [
        f"{name} {version} (pinned {pinned})"
        for name, pinned in sorted(_pins().items())
        if (version := _version(name)) and version.split("+")[0] != pinned
    ]
    if different:
        yield Finding("warning", f"not as pinned: {', '.join(different)}", INSTALL)
    if not missing and not outside and not different:
        as_pinned = "as pinned" if _pins() else "of releases that Refit knows"
        yield Finding("ok", f"libraries {as_pinned}: " + ", ".join(f"{name} {installed[name]}" for name in CORE))


def _required() -> dict[str, SpecifierSet]:
    """What Refit requires without any extra, as its installed package says."""
    requirements = [Requirement(line) for line in metadata.requires("refit") or ()]
    return {each.name: each.specifier for each in requirements if not each.marker or each.marker.evaluate()}


def _pins() -> dict[str, str]:
    """What constraints.txt pins; empty where Refit was installed from a wheel, which has none."""
    path = SOURCE_ROOT / "constraints.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _shadowing() -> Iterator[Finding]:
    for package in ("flows", "refit", "tasks", "feature_store", "registry"):
        spec = util.find_spec(package)
        where = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if where != SOURCE_ROOT / package:
            yield Finding(
                "error",
                f"package {package!r} comes from {where}",
                f"expected {SOURCE_ROOT / package}: run in Refit's own environment, without PYTHONPATH",
            )
            return
    yield Finding("ok", f"no package shadows ours in {SOURCE_ROOT}")


def _project(project: Path) -> Iterator[Finding]:
    if not (project / "params.yaml").is_file():
        yield Finding("warning", f"{project} is no project", "--project DIR names one, `refit init DIR` makes one")
        return
    try:
        params = run_file.params_outside(project)
    except RefitError as error:
        yield Finding("error", error.sentence)
        return
    yield Finding("ok", f"params.yaml: project {params.project.name}, {counted(len(params.train.learners), 'learner')}")
    owner = lock.holder(project)
    if owner is None:
        yield Finding("ok", "no run holds the project")
    elif lock.is_held(project):
        yield Finding("warning", f"held by {owner}", "wait for it, or end that process; the lock frees itself")
    free = shutil.disk_usage(project).free
    yield Finding("ok" if free > 2e9 else "warning", f"{free / 1e9:.1f} GB of disk free")
    if not os.access(project, os.W_OK):
        yield Finding("error", f"{project} is read-only for this user", "give write access")
        return
    for remark in filter(None, (uncommitted_remark(project), never_retrains(params))):
        yield Finding("warning", remark)
    stores = list(_stores(project, params))
    yield from stores
    yield _remote(project)
    if not (project / STATE).is_dir():
        yield Finding("ok", "nothing has run here yet", environments.command("run"))
        return
    if any(each.level == "error" for each in stores):
        depending = "the champion, the ledger's chain, the record of answered drift"
        yield Finding(
            "warning", f"not checked: {depending}", "mend the error above first; nothing is said against them"
        )
        return
    yield from _answers(project, params)
    yield from _ledger(project)
    from refit.models.incumbent import check_champion

    try:
        version = check_champion(context_of(project))
        description = f"version {version}, its stored files are those registered" if version else "none yet"
        yield Finding("ok", f"champion of {params.project.name}: {description}")
    except RefitError as error:
        yield Finding("error", environments.addressed(f"the champion cannot be trusted: {error.sentence}"))
        return
    try:
        if version and (champion := champion_summary(project)).since is None:
            yield Finding("warning", "; ".join(champion.why), "restore the file if there is a copy of it")
    except RefitError as error:
        yield Finding("error", error.sentence)


def _stores(project: Path, params: Params) -> Iterator[Finding]:
    """Ask the ledger and the registry whether they answer: a finding for each, none twice for one database."""
    from registry import versions
    from registry.ledger import Ledger
    from tasks import register

    context = context_of(project)

    def ask_registry() -> None:
        with registry_store.opened(context) as opened:
            versions.registered(opened, params.project.name)

    try:
        store = registry_store.store_of(project, params)
    except RefitError as error:
        yield Finding("error", error.sentence)
        return
    file = None if store.ledger_uri else store.home / "ledger.db"
    ledger = _asked(f"ledger {Ledger.of(store).location}", file, lambda: register.history(context))
    yield ledger
    if ledger.level == "error" and store.ledger_uri == store.uri:
        return
    kind = "MLflow server" if store.server else "registry"
    yield _asked(f"{kind} {store.database or store.shown}", store.database, ask_registry)


def _asked(what: str, file: Path | None, ask: Callable[[], object]) -> Finding:
    try:
        ask()
    except RefitError as error:
        return Finding("error", error.sentence)
    return Finding("ok", f"{what} {'answers' if file is None or file.is_file() else 'is not there yet'}")


def _remote(project: Path) -> Finding:
    """Ask DVC's remote whether it answers."""
    try:
        address = dvc_remote.asked(project)
    except RefitError as error:
        return Finding("error", error.sentence)
    if address is None:
        return Finding("ok", "DVC has no remote: what models were made from is on this machine alone")
    return Finding("ok", f"DVC's remote {address} answers")


def _ledger(project: Path) -> Iterator[Finding]:
    from tasks import register

    try:
        path, chain = register.ledger_state(context_of(project))
        warnings = [] if chain.problem else register.ledger_warnings(context_of(project))
    except RefitError as error:
        yield Finding("error", str(error))
        return
    yield from (Finding("warning", warning) for warning in warnings)
    if chain.problem:
        advice = (
            "restore the file (or the database) from a copy, or "
            f'`{environments.command("repair")} --accept-ledger --why "..."` goes on with what is there'
        )
        yield Finding("error", f"the ledger {path} is broken: {chain.problem}", advice)
    elif chain.unchained:
        lines = f"{counted(chain.unchained, 'line')} of an older Refit, which no digest covers yet"
        yield Finding("warning", f"the ledger has {lines}", f"the next `{environments.command('run')}` takes them over")
    elif chain.lines:
        yield Finding("ok", f"the ledger is as it was written: {counted(chain.lines, 'line')}, chained by digests")


def _answers(project: Path, params: Params) -> Iterator[Finding]:
    """Check that the record of answered drift lets later drift be answered."""
    try:
        if reason := retrain_dedup.invalid_reason(project, params, utc_now()):
            yield Finding(
                "warning",
                f"{reason}; it counts for nothing",
                f"the next `{environments.command('run')}` that answers drift replaces it",
            )
    except RefitError as error:
        yield Finding("error", str(error))


def _services(project: Path) -> Iterator[Finding]:
    """Check that each process started by `refit up` is alive and answers."""
    for name, process in read_record(project).items():
        where = f"{name} (pid {process.pid}" + (f", port {process.port})" if process.port else ")")
        if process.answers():
            yield Finding("ok", f"up: {where}")
        else:
            state = "does not answer" if process.process() else "has ended"
            yield Finding("warning", f"{where} {state}; its log is {process.log}", "refit up")
