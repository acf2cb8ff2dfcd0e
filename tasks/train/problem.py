"""The problem of a project's params, with the code that its options name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from refit.config import Params
from refit.learners import project_files
from refit.problems import problem_of
from refit.problems.contract import Problem


def problem_in(params: Params, project: Path, classes: Sequence[str] = ()) -> Problem:
    """Return the problem of the params, with the project's files that its options name.

    Args:
        classes: of a multiclass problem, in the order of their codes.

    Raises:
        UserError: a file that they name is missing.
    """
    problem, where = problem_of(params.task, classes, params.train.problem), "params.yaml: train.problem"
    names = problem.options.code() if problem.options else ()
    return replace(problem, sources=project_files.read_sources(project, names, where))
