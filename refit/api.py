"""Refit in notebooks and programs: what the commands do, as functions whose results show themselves as the commands do.

import refit

summary = refit.run("projects/churn")    # in a notebook, the last line of a cell shows the summary
summary.model.version
refit.check_drift("projects/churn").verdict
"""

from __future__ import annotations

import contextlib
import html
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from flows.run_summary import RunSummary
    from refit.schemas.drift_decision import DriftDecision
    from refit.schemas.explanations import RowExplanations
    from refit.schemas.replay_result import ReplayResult
    from refit.schemas.score_report import ScoreReport
    from refit.schemas.version_comparison import VersionComparison
    from registry.ledger import Entry
    from tasks.register import ChampionSummary

T = TypeVar("T")

__all__ = ["Result", "check_drift", "compare", "explain", "history", "replay", "run", "score", "show", "status"]


@dataclass(frozen=True, repr=False)
class Result(Generic[T]):
    """A value with the text that the command prints of it; attributes and items of the value are those of the result.

    >>> result = Result({"a": 1}, "a is 1")
    >>> result, result.value["a"], result._repr_html_()
    (a is 1, 1, '<pre>a is 1</pre>')
    >>> result["a"], len(result), list(result)
    (1, 1, ['a'])
    """

    value: T
    text: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(cast(Any, self.value))

    def __len__(self) -> int:
        return len(cast(Any, self.value))

    def __getitem__(self, key: Any) -> Any:
        return cast(Any, self.value)[key]

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def run(
    project: str | Path = ".",
    *,
    as_of: str = "latest",
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    wait_seconds: float = 0,
) -> Result[RunSummary]:
    """Bring the model up to date, as `refit run` does; it may promote.

    Args:
        overrides: settings by `section.key`, for this run only.

    Raises:
        refit.errors.RefitError: a setting is wrong, a stage failed, or another run holds the project.
    """
    from flows.run_options import RunOptions
    from flows.summary_display import print_summary
    from refit.cli import running
    from refit.runtime.terminal import Terminal

    started = time.monotonic()
    options = RunOptions(as_of=as_of, overrides=dict(overrides or {}), force=force, wait_seconds=wait_seconds)
    summary = running.run(_project(project), options, quiet=True)
    summary = summary.model_copy(update={"seconds": round(time.monotonic() - started, 3)})  # not of the whole notebook
    return Result(summary, _printed(lambda: print_summary(summary, Terminal())))


def show(project: str | Path = ".") -> Result[ChampionSummary]:
    """Which version is champion, since when, why, and its numbers.

    Raises:
        refit.errors.RefitError: there is no champion yet, or the registry cannot be trusted.
    """
    from refit.cli import inspection

    champion = inspection.champion_summary(_project(project))
    return Result(champion, _printed(lambda: inspection.print_champion(champion)))


def history(project: str | Path = ".") -> Result[list[Entry]]:
    """Every promotion, refusal and rollback, oldest first."""
    from refit.cli import inspection

    entries = inspection.history(_project(project))
    return Result(entries, _printed(lambda: inspection.print_history(entries)))


def status(project: str | Path = ".") -> Result[dict[str, list[str]]]:
    """The stages that a run would run now, each with its reasons; empty if all are up to date."""
    from refit.cli import inspection

    stale = inspection.status(_project(project))
    return Result(stale, "\n".join(inspection.format_status(stale)))


def score(
    rows: str | Path, project: str | Path = ".", *, as_of: str = "now", out: str | Path | None = None
) -> Result[ScoreReport]:
    """Score a CSV or Parquet file, or a batch such as `2013-11`, with the champion; `out` of the result is the file."""
    from flows.summary_display import print_lines, score_rows
    from refit.cli import running
    from refit.runtime.terminal import Terminal

    target = None if out is None else Path(out)
    report = running.score(_project(project), str(rows), as_of=as_of, out=target, wait_seconds=0, quiet=True)
    return Result(report, _printed(lambda: print_lines(score_rows(report), Terminal())))


def check_drift(project: str | Path = ".", *, as_of: str = "latest") -> Result[DriftDecision]:
    """Whether the champion still fits, as `refit drift` says."""
    from flows.summary_display import drift_rows, print_lines
    from refit.cli import running
    from refit.runtime.terminal import Terminal

    decision = running.drift(_project(project), as_of=as_of, wait_seconds=0, quiet=True)
    return Result(decision, _printed(lambda: print_lines(drift_rows(decision), Terminal())))


def replay(
    project: str | Path = ".",
    *,
    start: str | None = None,
    end: str | None = None,
    policies: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Result[ReplayResult]:
    """What retraining policies would have achieved in the past, as `refit replay` says; the champion is left alone.

    Args:
        start: day on which it begins; default: half of what was ingested.
        end: day on which it ends; default: where the data end.
        policies: separated by commas, each with settings of `drift` after colons; default: those of the command.
        overrides: settings by `section.key`, for this replay only.
    """
    from refit.cli import evaluation_commands, replays
    from refit.runtime.terminal import Terminal

    report = replays.replay(
        _project(project),
        start=start,
        end=end,
        every=None,
        policies=policies or evaluation_commands.POLICIES,
        metric=None,
        budget=None,
        random=0,
        overrides=dict(overrides or {}),
        wait_seconds=0,
        quiet=True,
    )
    return Result(report, _printed(lambda: replays.show(report, Terminal())))


def explain(row: str, project: str | Path = ".") -> Result[RowExplanations]:
    """Which features pushed the prediction of a row up and down; `row` is its key, or a CSV or Parquet file."""
    from refit.cli import explain
    from refit.runtime.terminal import Terminal

    report = explain.explain_row(_project(project), row, out=None, wait_seconds=0, quiet=True)
    return Result(report, _printed(lambda: explain.print_reasons(report, Terminal())))


def compare(first: str, second: str, project: str | Path = ".") -> Result[VersionComparison]:
    """Two versions of the model, side by side.

    Raises:
        refit.errors.UserError: there is no such version.
    """
    from refit.cli import comparison as comparing

    comparison = comparing.compare(_project(project), str(first), str(second))
    return Result(comparison, _printed(lambda: comparing.print_comparison(comparison)))


def _project(folder: str | Path) -> Path:
    from refit.cli.options import project_at, quiet_prefect
    from refit.runtime.terminal import guard_logs

    guard_logs()
    quiet_prefect(debug=False)
    return project_at(Path(folder))


def _printed(show: Callable[[], None]) -> str:
    """What a function prints, without trailing blanks."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        show()
    return "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").split("\n"))
