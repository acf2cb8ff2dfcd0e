"""Explains a drift decision in sentences, for readers who know the problem but not the statistics."""

from __future__ import annotations

from collections.abc import Iterator

from refit.evaluation.interval_coverage import percent, reached_percent
from refit.problems import metric_named
from refit.runtime import environments
from refit.schemas.drift_decision import Cause, DriftDecision, PerformanceVerdict

_CAUSES: dict[Cause, str] = {
    "performance": "it has lost skill",
    "schedule": "a new one is due",
    "input": "its inputs have drifted",
}


def verdict(decision: DriftDecision) -> str:
    """The decision in one sentence."""
    version = f"version {decision.version}"
    if decision.verdict == "retrain":
        return f"Train {version} again: {' and '.join(_CAUSES[cause] for cause in decision.causes)}."
    if decision.blocked:
        return f"{version.capitalize()} should be trained again, but not now."  # a reason says that it is held back
    if decision.verdict == "warn":
        return f"Look at {version}: something is odd, though nothing asks for a retraining."
    if not decision.anything_judged:
        return "Nothing can be judged." if decision.skill_measured else "Nothing to judge yet."
    if decision.newest_judged is None:
        why = "though its skill cannot be judged" if decision.skill_measured else "as far as can be seen without labels"
        return f"Nothing is amiss with {version}, {why}."
    return f"{version.capitalize()} still fits."


def next_step(decision: DriftDecision) -> tuple[str, str]:
    """What to do next, and the command for it."""
    if decision.verdict == "retrain":
        return (
            "The flow drift-watch asks for it by itself, by the event drift.detected. By hand it is the command below; "
            "the gate then decides whether the new model is promoted.",
            environments.command("run"),
        )
    if decision.blocked:
        return (
            "The decision is taken again with the next look. To train at once all the same:",
            environments.command("run"),
        )
    if decision.verdict == "warn":
        return (
            "Ask the people who make these rows what has changed. To train at once all the same:",
            environments.command("run"),
        )
    when = f"the {decision.policy.window} that begins on {decision.window.end}" if decision.window else "a window"
    return (f"Nothing to do. To look again once {when} is over:", environments.command("drift"))


def reasons(decision: DriftDecision) -> list[tuple[str, str]]:
    """Each reason with the kind of its mark."""
    held = [f"held back: {sentence}" for sentence in decision.blocked]
    return [("bad" if sentence in held else "note", sentence) for sentence in decision.reasons]


def verdict_word(decision: DriftDecision) -> str:
    """The verdict for the terminal; not `ok` if nothing could be checked."""
    if decision.verdict != "ok" or decision.anything_judged:
        return decision.verdict
    return "nothing can be judged" if decision.skill_measured else "nothing judged yet"


def performance(decision: DriftDecision) -> str:
    """Explanation of the skill chart."""
    metric = metric_named(decision.policy.metric).words
    worth = {
        "roc_auc": f"{metric} less .5",
        "average_precision": f"{metric} less the base rate",
    }.get(
        decision.policy.metric,
        f"the part of what the naive guess lacks to a perfect {metric} that the model saves",
    )
    text = f"Skill is what the model is worth beyond a naive guess refitted on that very window ({worth})."
    newest = decision.newest_judged
    if newest is None:
        if decision.skill_measured:
            return f"{text} The newest window cannot be judged by any measure."
        return f"{text} No window of production has enough labels yet."
    if newest.unjudged:
        return f"{text} Skill cannot be judged by {metric}: {newest.unjudged}."
    if newest.threshold is None:
        return f"{text} Its backtest is too short to say how low is unusual, so nothing here counts as a loss."
    excluded = sum(window.excluded for window in decision.backtest)
    low = (
        f", without the {excluded} of its {len(decision.backtest)} windows that are low themselves" if excluded else ""
    )
    usually = (
        f"{text} In the backtest it was {newest.expected:.3f} on average{low}; a window whose skill lies below "
        f"{newest.threshold:.3f} counts as a loss."
    )
    if lasting := decision.lasting:
        usually += (
            f" All windows together: evidence of a lasting loss {min(lasting.evidence, 1e6):,.1f}, which asks for a "
            f"retraining from {lasting.limit:.0f} on."
        )
    return usually


def further(window: PerformanceVerdict) -> str:
    """What was measured in addition to the gate's metric: `brier .412 of .380`, with what each is held against."""
    return "; ".join(
        f"{each.name} cannot be judged"
        if each.unjudged
        else f"{each.name} {each.value:.3f}" + ("" if each.threshold is None else f" of {each.threshold:.3f}")
        for each in window.others
        if each.value is not None
    )


def inputs(decision: DriftDecision) -> str:
    """Explanation of the heat map."""
    return (
        "How far each column has moved from what the model learned from: the largest of its effects, as a multiple of "
        "the size from which on it counts as drift. Point at a cell for its numbers."
        if any(window.inputs.columns for window in decision.windows)
        else "No column could be compared: no row was scored."
    )


def method(decision: DriftDecision) -> Iterator[str]:
    """The method of the decision and its assumptions."""
    policy = decision.policy
    yield (
        f"A window is a {policy.window}; {policy.breached} of the newest {policy.windows} have to be "
        "breached, with the newest among them."
    )
    yield (
        f"A retraining is asked for by {' or '.join(policy.retrain_on) or 'nothing'} (retrain_on); anything else "
        f"warns at most. Between two retrainings lie {policy.cooldown_days:g} days, and there are at most "
        f"{policy.monthly_budget} within 30 days."
    )
    yield (
        f"Skill, by the gate's metric or a proper score, counts as lost where an unchanged model would have so low a "
        f"window {policy.alpha:.0%} of the time by any of them, and at least {policy.min_skill_loss:g} of it is gone. "
        f"Whiskers are {policy.confidence:.0%} intervals that allow for rows of one day being alike."
    )
    yield (
        "A measure cannot be judged where the windows that it is held against differ so much that even a gross change "
        "would be usual: half of the rows moved to one value, or a model no better than a naive guess. It counts as "
        "neither fine nor breached."
    )
    yield (
        f"A column has drifted where an effect is larger than windows of the reference differ by chance (at most "
        f"{policy.false_discovery:.0%} of the columns that are found are false), and large enough to matter "
        "(min_effect)."
    )
    if decision.windows:
        newest = decision.windows[-1].inputs
        notes = newest.reasons[1:] if newest.columns else newest.reasons  # the first reason is the result
        yield from (note[0].upper() + note[1:] + "." for note in dict.fromkeys(notes))
    if any(window.performance.estimated is not None for window in decision.windows):
        yield "An estimate without labels sees that rows became harder, never that the same rows mean something else."
    yield "Drift tells that something changed, not why; a season that the reference has not seen looks just like it."


def tiles(decision: DriftDecision, drifted: int, columns: int) -> Iterator[tuple[str, str, str]]:
    """Name, value and note of each tile."""
    windows = [window.performance for window in decision.windows]
    rows, labelled = sum(each.rows for each in windows), sum(each.labelled for each in windows)
    yield "windows judged", str(len(windows)), f"of a {decision.policy.window} each"
    waiting = f"{labelled:,} labelled, {rows - labelled:,} waiting" if rows else "none yet"
    yield "rows scored", f"{rows:,}", waiting
    newest = decision.newest_judged
    if newest is None:
        estimated = windows[-1].estimated_skill if windows else None
        missing = "cannot be judged" if decision.skill_measured else "no labels yet"
        yield "skill", "–", missing + (f"; estimated {estimated:.3f}" if estimated is not None else "")
    else:
        usual = (
            ("cannot be judged" if newest.unjudged else "uncalibrated")
            if newest.threshold is None
            else f"usual {newest.expected:.3f}, loss below {newest.threshold:.3f}"
        )
        yield "skill", f"{newest.skill:.3f}", usual
    yield "columns drifted", f"{drifted}", f"of {columns} in the newest window" if columns else "none compared"
    if (held := decision.coverage) and held.coverage.value is not None:
        note = f"of the labels, {percent(held.level)} stated{'; warning' if held.warning else ''}"
        yield "intervals held", reached_percent(held.coverage.value), note
    yield "version", decision.version, f"champion; made from rows before {decision.seen_until}"
    yield (
        "labelled since",
        f"{decision.new_labelled:,}",
        f"the newest training, as of {decision.trained_as_of:%Y-%m-%d}",
    )
