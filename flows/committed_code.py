"""Whether a project's code is committed: scheduled and triggered trainings start with committed code only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.deployments import PREFECT_YAML, TRAINING
from refit.errors import RefitError, UserError
from refit.files.yaml_files import read_yaml
from refit.runtime import provenance, run_file

__all__ = ["refuse_uncommitted", "uncommitted_remark"]


def refuse_uncommitted(project: Path) -> str:
    """Refuse a project whose code is not all committed; return a line if it is in no repository, else an empty one.

    Raises:
        UserError: code is not committed.
        RefitError: the project lies in a repository, and git cannot say.
    """
    if (files := _uncommitted(project)) is None:
        return f"{project} is not in git: which code this run uses is not recorded"
    if files:
        raise UserError(
            f"{project} has code that is not committed: {_listed(files)}; scheduled and triggered runs use committed "
            "code only: commit or stash it, or give --param allow_uncommitted=true"
        )
    return ""


def uncommitted_remark(project: Path) -> str:
    """Return a line if trainings that `prefect.yaml` deploys in this folder would be refused; empty if not."""
    try:
        if not _must_be_committed(project) or not (files := _uncommitted(project)):
            return ""
    except RefitError as error:
        return f"deployed trainings do not start: {error.sentence}"
    return (
        f"deployed trainings do not start (each ends as NotStarted): {_listed(files)} not committed, and they use "
        'committed code only; `git add -A && git commit -m "..."` lets them start'
    )


def _must_be_committed(project: Path) -> bool:
    """Whether `prefect.yaml` deploys a training for committed code only, as it does unless somebody changed that."""
    declared = read_yaml(project / PREFECT_YAML).get("deployments") if (project / PREFECT_YAML).is_file() else None
    return any(
        str(each.get("entrypoint")).startswith(TRAINING)
        and isinstance(parameters := each.get("parameters"), Mapping)
        and parameters.get("allow_uncommitted") is False
        for each in (declared if isinstance(declared, list) else [])
        if isinstance(each, Mapping)
    )


def _uncommitted(project: Path) -> tuple[str, ...] | None:
    """The code files that are not committed, those that git ignores included; None outside of git."""
    changed = provenance.uncommitted_code(project)
    if changed is None:
        return None
    ignored = provenance.untracked(project, run_file.code_files(project)) or ()
    return (*changed, *(name for name in ignored if name not in changed))


def _listed(files: tuple[str, ...]) -> str:
    return ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
