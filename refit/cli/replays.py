"""`refit replay`: simulates months of production in minutes, to choose a retraining policy on a project's history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.table import Column, Table

from flows.deployments import trains_by_clock
from flows.progress_display import screen, show_progress
from flows.retraining_policy import never_retrains
from refit.config import Params, nearest
from refit.config.windows import Period, period_start, shift
from refit.errors import UserError
from refit.files.artifacts import SNAPSHOT
from refit.files.yaml_edits import set_values
from refit.plain_text import number, signed
from refit.problems import metric_named
from refit.reports.replay_words import recommendation
from refit.runtime import environments, lock, run_file
from refit.runtime.context import Context
from refit.runtime.terminal import Terminal, line
from refit.schemas.replay_result import Gain, PolicyResult, ReplayResult, WindowResult
from refit.schemas.snapshot import Snapshot
from refit.storage.snapshots import label_source

if TYPE_CHECKING:
    from refit.operations.replay import ReplayOptions


def _period(project: Path, params: Params, every: Period, start: str | None, end: str | None) -> tuple[str, str]:
    """The later half of what the last run had, in whole periods, where `start` or `end` is not given.

    Raises:
        RefitError: nothing was ingested yet.
    """
    snapshot, zone = Snapshot.read(project / SNAPSHOT), params.project.zone
    source = label_source(params)
    batches = [each for each in snapshot.batches if each.source == source and each.first and each.last]
    if not batches:
        raise UserError("the last run ingested no dated rows; name the time to replay: --from DATE --to DATE")
    first, last = min(each.first for each in batches if each.first), max(each.last for each in batches if each.last)
    ends = period_start(min(snapshot.as_of, shift(period_start(last, every, zone), 1, every)), every, zone)
    begins = period_start(first + (last - first) / 2, every, zone)
    return start or begins.date().isoformat(), end or ends.date().isoformat()


MOST_WINDOWS = 16  # printed; the report has all
SHORTEST: dict[Period, float] = {"day": 0.9, "week": 6.9, "month": 27.9}  # days, with an hour less in spring


def replay(
    project: Path,
    *,
    start: str | None,
    end: str | None,
    every: str | None,
    policies: str,
    metric: str | None,
    budget: int | None,
    random: int,
    recommend: bool = False,
    overrides: run_file.Overrides,
    wait_seconds: float,
    quiet: bool = False,
) -> ReplayResult:
    """Simulate the time from `start` to `end` under each policy.

    Raises:
        UserError: an argument or the params are invalid, or there is nothing to simulate.
        RefitError: another replay of this project is running.
    """
    params = run_file.check(project, run_file.RunFile(overrides=dict(overrides)))
    every, metric = every or params.ingest.period, metric or params.evaluate.gate.metric
    _require("--every", every, get_args(Period))
    from refit.operations import replay as replaying
    from refit.operations.replay import policies as policies_module
    from refit.operations.replay.history import FOLDER
    from refit.operations.replay.scoring import metrics_of
    from refit.reports import replay_report

    _require("--metric", metric, tuple(metrics := metrics_of(params.task)))
    if start is None or end is None:
        start, end = _period(project, params, cast(Period, every), start, end)
    request = replaying.ReplayOptions(
        start,
        end,
        cast(Period, every),
        tuple(policies_module.parse(policies, params.drift)),
        metrics[metric],
        budget,
        random,
    )
    if str(project) not in sys.path:
        sys.path.append(str(project))  # learners may lie in the project
    with (
        show_progress(Terminal(stderr=True), stages=False),
        lock.project_lock(project / FOLDER, trigger="refit replay", wait_seconds=wait_seconds),
    ):
        result = replaying.run(Context(project=project, params=params, progress=screen()), request)
        report = replay_report.write(project / FOLDER, result, params.project.zone)
        if recommend and result.knee:  # params.yaml may refuse it: the finished replay is kept
            result = result.model_copy(update={"recommended": _recommend(project, result, request)})
            replay_report.write(project / FOLDER, result, params.project.zone)
        result = result.model_copy(update={"report": str(report)})
    if not quiet:
        show(result, Terminal())
        if result.recommended is not None:
            written = run_file.check(project, run_file.RunFile())
            for remark in filter(None, (trains_by_clock(project, written), never_retrains(written))):
                Terminal().print(line(("Note:", "bold"), f" {remark}"))
    return result


def _recommend(project: Path, result: ReplayResult, request: ReplayOptions) -> dict[str, JsonValue]:
    """Write the settings of the policy at the knee to the params of this environment, or params.yaml without one.

    Returns them; none if they are so already.
    """
    from refit.operations.replay.policies import settings_of

    policy = next(each for each in request.policies if each.name == result.knee)
    written = run_file.check(project, run_file.RunFile()).drift
    settings = settings_of(policy, written, SHORTEST[request.every])
    if settings:
        set_values(environments.files(project)[-1], "drift", settings)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _require(option: str, value: str, valid_values: tuple[str, ...]) -> None:
    if value not in valid_values:
        raise UserError(f"{option} {value}{nearest(value, valid_values)}; it is one of {', '.join(valid_values)}")


def show(report: ReplayResult, console: Terminal) -> None:
    """Print the policies side by side, their windows, and the best one."""
    metric = metric_named(report.metric).words
    console.print()
    console.print(f"{report.model}, {report.start} to {report.end}, every {report.every}", style="bold")
    table = Table(Column("policy", overflow="fold"), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    own = ("at own",) if report.at_own_thresholds else ()
    for name in (metric, *own, "behind", "±", "retrained", "promoted", "refused", "train s", report.currency):
        table.add_column(name, justify="right")
    for name, policy in report.policies.items():
        style = "green" if name == report.best else ""
        counts = map(str, (policy.retrainings, policy.promotions, policy.refusals))
        training = (f"{policy.train_seconds:.0f}", f"{policy.train_cost:.2g}")
        scores = (_format_score(each) for each in (policy.score, policy.at_own_threshold)[: 1 + len(own)])
        table.add_row(_lines(name), *scores, *_gap(policy), *counts, *training, style=style)
    console.print(table)
    console.print("behind: the best policy's lead on the same rows, ± half its interval", style="italic")
    _print_windows(report, console)
    for name, policy in report.policies.items():
        if random := policy.random:
            gain = random.gain
            console.print(
                f"{name}: {signed(gain.value)} over the median of {random.schedules} random schedules of as many "
                f"trainings ({_format_interval(gain)})"
            )
    if own:
        console.print("at own: accuracy at each champion's own threshold; policies are compared at .5", style="italic")
    if report.no_change is not None:
        console.print(f"saying what the last known label was: accuracy {number(report.no_change)}")
    within = "" if report.budget is None else f" with at most {report.budget} retrainings"
    console.print(line((f"Best{within}:", "bold"), f" {_best(report)}"))
    if report.knee:
        console.print(line(("Recommended:", "bold"), f" {recommendation(report)}"))
    durations = " · ".join(f"{part} {seconds:.1f} s" for part, seconds in report.parts.items())
    console.print(
        line(("Took", "bold"), f" {report.seconds:.1f} s: {durations}; {report.trained_now} models trained again")
    )
    console.print(line(("Report", "bold"), f" {report.report}"), soft_wrap=True)


def _print_windows(report: ReplayResult, console: Terminal) -> None:
    """Print a row for each window and a column for each policy, with a star where a model was promoted."""
    policies = report.policies
    windows = next(iter(policies.values())).by_window
    if len(windows) > MOST_WINDOWS:
        return
    table = Table("window from", box=None, pad_edge=False)
    for name in policies:
        table.add_column(_lines(name), justify="right", overflow="fold")
    for index, window in enumerate(windows):
        row = [policy.by_window[index] for policy in policies.values()]
        table.add_row(str(window.day), *(f"{_format_score(cell.score)}{_mark(cell)}" for cell in row))
    console.print()
    console.print(table)
    console.print(
        "* a new model was promoted, - one was trained and refused, – no score: there was no champion, or labels are "
        "missing or all alike",
        style="italic",
    )


def _lines(policy: str) -> RenderableType:
    """Return a policy's name, with each of its settings on a line of its own."""
    first, *settings = policy.split(":")
    return Group(first, *(f":{each}" for each in settings))


def _format_interval(gain: Gain) -> str:
    if gain.lower is None:
        return "too few windows for an interval"
    return f"between {signed(gain.lower)} and {signed(gain.upper)}"


def _best(report: ReplayResult) -> str:
    if report.best is None:
        return f"none, {_explain_no_best(report)}"
    if not report.not_worse:
        return report.best
    others = ", ".join(report.not_worse)
    return f"no policy is shown to be the best; {report.best} has the best score; not shown to be worse: {others}"


def _explain_no_best(report: ReplayResult) -> str:
    has_scores = any(policy.score is not None for policy in report.policies.values())
    return "no policy keeps the budget" if has_scores else "no window has labels to score a model by"


def _mark(window: WindowResult) -> str:
    return "*" if window.promoted else "-" if window.refused else " "


def _format_score(value: float | None) -> str:
    return number(value)


def _gap(policy: PolicyResult) -> tuple[str, str]:
    """Format the difference between the best policy and this one, and half of its interval."""
    difference = policy.behind_best
    if difference.value is None or difference.lower is None or difference.upper is None:
        return "–", ""
    return number(difference.value), number((difference.upper - difference.lower) / 2)
