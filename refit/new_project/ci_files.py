"""A project's files for CI: GitHub's and GitLab's workflow, and the scripts that both only call."""

from __future__ import annotations

import os
from pathlib import Path

from refit.files.artifacts import atomic

_SCRIPTS = ("judge.sh", "promote.sh", "drift.sh")
TARGETS = {
    **{f"infra/ci/{name}": name for name in _SCRIPTS},
    ".github/workflows/refit.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
}
# No package index has Refit, and a stranger's package of that name must not run with a pipeline's secrets.
INSTALL = (
    'pip install "refit[server] @ ${REFIT:?set the CI variable REFIT to the URL of a wheel of Refit, or git+https}"'
)


def write(folder: Path, *, scripts_only: bool = False) -> None:
    """Add the files that are not there yet.

    Args:
        scripts_only: leave the workflows out, which are read at the top of a repository alone.
    """
    for target, name in TARGETS.items():
        if scripts_only and name not in _SCRIPTS:
            continue
        if not os.path.lexists(folder / target):
            with atomic(folder / target) as scratch:
                scratch.write_text(content(name, INSTALL), encoding="utf-8")
            (folder / target).chmod(0o755 if name in _SCRIPTS else 0o644)


def note(top: Path) -> str:
    """What to add for a project in a folder of a repository."""
    return (
        f"infra/ci/ has the scripts; the repository's own workflow, in {top}, has to call them in this folder "
        "(Refit's docs/deploying.md)"
    )


def content(name: str, install: str) -> str:
    """Return a file with the command that installs Refit."""
    text = (Path(__file__).parent / "ci" / name).read_text(encoding="utf-8")
    return text.replace("- run: <install>", f"- run: {install}").replace("- <install>", f"- {install}")
