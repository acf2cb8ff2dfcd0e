"""`refit check-learner`: checks any class against the contract of a learner, rule by rule."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from refit.config import file_of, nearest
from refit.errors import UserError
from refit.learners import Spec, make, project_files
from refit.learners.conformance import RuleOutcome, check
from refit.learners.conformance.sample import CATEGORICAL, FEATURES
from refit.problems import is_kind, kind_of, tasks
from refit.runtime import run_file
from refit.runtime.terminal import Terminal, line

STYLE = {"passed": "green", "failed": "red", "skipped": "dim"}


def run_checks(project: Path, kind: str, params: Mapping[str, object], task: str) -> list[RuleOutcome]:
    """Check a kind, named as in `train.learners`, against each rule; the class is trusted for this check only.

    Raises:
        UserError: there is no such class, file or task, or an argument is unknown.
    """
    if task not in tasks():
        raise UserError(f"--task {task}: there is no such task, {', '.join(tasks())} are known{nearest(task, tasks())}")
    if str(project) not in sys.path:
        sys.path.append(str(project))
    trusted = run_file.params_outside(project).registry.trusted_types if (project / "params.yaml").is_file() else ()
    if file_of(kind) or ":" in kind:
        trusted = (*trusted, kind)
    source = project_files.read_source(project, kind)
    metric = kind_of(task).default_metric
    spec = Spec("checked", kind, FEATURES, CATEGORICAL, params, 0, metric, trusted, task, source=source)
    if any(is_kind(each) and kind_of(each).played for each in (task, *make(spec).declaration.tasks)):
        raise UserError(
            f"{kind}: it plays episodes, and the rules are tried on a table of rows; `refit run` checks that "
            "the environment keeps its rules, and that the stored policy plays as it was judged"
        )
    return list(check(spec))


def print_findings(kind: str, findings: Sequence[RuleOutcome]) -> None:
    """Print a line for each rule, a summary, and the next step."""
    console = Terminal()
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        table.add_row(line((finding.outcome, STYLE[finding.outcome])), line((finding.rule, "bold")), finding.said)
    console.print(table)
    failed = sum(finding.outcome == "failed" for finding in findings)
    applicable = sum(finding.outcome != "skipped" for finding in findings)
    console.print(f"{kind}: {applicable - failed} of {applicable} rules kept")
    if file_of(kind) and not failed:
        console.print(f"It may be the candidate once you trust it: registry.trusted_types: [{kind!r}]")
