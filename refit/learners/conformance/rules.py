"""The rules of the contract, each a function whose docstring is the promise."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refit.errors import RefitError, UserError
from refit.learners import Learner, make, update
from refit.learners.conformance.refusals import not_loaded, one_line, predicted_or_refused, refused
from refit.learners.conformance.sample import FEATURES, SEEN_ROWS, Rows
from refit.learners.conformance.subject import Broken, NotApplicable, Subject, bits

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rule:
    """One promise, and the function that checks it."""

    name: str
    promise: str
    keep: Callable[[Subject], None]


RULES: list[Rule] = []


def rule(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
    """Register a rule: a function whose docstring is the promise, and which raises `Broken` if it does not hold."""
    assert function.__doc__ is not None
    RULES.append(Rule(function.__name__.replace("_", " "), " ".join(function.__doc__.split()), function))
    return function


@rule
def declares_what_it_can_do(subject: Subject) -> None:
    """It declares the tasks it is for, this one among them, and the file format that it is stored in."""
    declared = make(subject.spec).declaration
    if subject.spec.task not in declared.tasks:
        raise Broken(f"it declares tasks {', '.join(declared.tasks) or 'none'}, and was asked for {subject.spec.task}")
    if declared.safe_format is None:
        raise Broken("it declares no safe_format: it may be compared, and can never be the candidate")


@rule
def predictions_fit_the_task(subject: Subject) -> None:
    """It predicts, for each row, a probability of 1, one for each class with sum 1, or a finite number."""
    predicted, rows = subject.predicted, len(subject.seen)
    shape = (rows, len(subject.spec.classes)) if subject.spec.task == "multiclass" else (rows,)
    if not isinstance(predicted, np.ndarray) or predicted.dtype != np.float64 or predicted.shape != shape:
        raise Broken(f"predict gave {_described(predicted)}; a float64 array of shape {shape} was expected")
    if not np.isfinite(predicted).all():
        raise Broken(f"{int((~np.isfinite(predicted)).sum())} predictions are not finite")
    if subject.spec.task != "regression" and not ((predicted >= 0) & (predicted <= 1)).all():
        raise Broken(
            f"predictions lie between {predicted.min():g} and {predicted.max():g}; probabilities lie in 0 to 1"
        )
    if subject.spec.task == "multiclass" and not np.allclose(predicted.sum(axis=1), 1):
        raise Broken(f"probabilities of a row sum to {predicted.sum(axis=1).min():g}; 1 was expected")


@rule
def predictions_follow_their_rows(subject: Subject) -> None:
    """A row's prediction depends neither on the other rows nor on their order, unless it declares `order`."""
    if subject.fitted.declaration.order:
        raise NotApplicable("it declares that rows come in time order")
    order = np.random.default_rng(0).permutation(len(subject.seen))
    among = subject.fitted.predict(subject.seen.table.take(order))
    if not np.allclose(among, subject.predicted[order], rtol=1e-5):
        raise Broken("rows in another order were predicted otherwise; declare order, or make each row stand alone")
    if not np.allclose(subject.fitted.predict(subject.seen.table.slice(7, 1)), subject.predicted[7:8], rtol=1e-5):
        raise Broken("a row predicted alone has another prediction than among others")


@rule
def the_same_rows_and_seed_give_the_same_model(subject: Subject) -> None:
    """Fitted again on the same rows in the same order with the same seed, it is bit for bit the same."""
    again = subject.fit()
    if not np.array_equal(again.predict(subject.seen.table), subject.predicted):
        raise Broken("a second fit predicts otherwise; take every random number from spec.seed")
    if again.digest() != subject.fitted.digest():
        raise Broken("a second fit predicts the same and has another digest; leave out what decides no prediction")


@rule
def another_process_fits_the_same_model(subject: Subject) -> None:
    """Fitted in a fresh process with another hash seed and time zone, it is the same."""
    if subject.fresh_process["fitted_again"] != subject.fitted.digest():
        raise Broken("a fresh process fits another model; sort what comes out of sets, and read no clock")


@rule
def other_rows_give_another_digest(subject: Subject) -> None:
    """Fitted on one row less it has another digest, so that two models are never taken for one."""
    other = subject.fit(subject.train.slice(1))
    if other.digest() == subject.fitted.digest():
        raise Broken("a model fitted on other rows has the same digest; everything that decides predictions is in it")


@rule
def it_has_a_safe_format(subject: Subject) -> None:
    """It can be stored without pickle, in types that are trusted."""
    if (why := subject.fitted.unsafe_reason()) is not None:
        raise Broken(f"it may be compared and never be the candidate: {why}")


@rule
def stored_it_is_the_same_in_a_fresh_process(subject: Subject) -> None:
    """Loaded in a fresh process that refuses pickles, it gives the same predictions, digest and threshold."""
    report = subject.fresh_process
    if report["predicted"] != bits(subject.predicted):
        raise Broken("loaded in a fresh process it predicts otherwise; store all that it learned, to the last bit")
    if report["digest"] != subject.fitted.digest():
        raise Broken("loaded in a fresh process it has another digest")
    if report["threshold"] != subject.fitted.threshold:
        raise Broken(f"threshold {subject.fitted.threshold} came back as {report['threshold']}")


@rule
def what_was_stored_is_read_only_if_unchanged(subject: Subject) -> None:
    """A stored model with a changed, surplus or missing file is refused."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subject.fitted.save(folder)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
        (surplus := folder / "surplus.txt").write_text("x")
        not_loaded(folder, subject.spec, "a surplus file")
        surplus.unlink()
        for path in files:
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
            not_loaded(folder, subject.spec, f"a changed {path.name}")
            path.unlink()
            not_loaded(folder, subject.spec, f"no {path.name}")
            path.write_bytes(content)


@rule
def nothing_that_it_was_given_is_changed(subject: Subject) -> None:
    """Neither rows, nor labels, nor params are changed by fitting and predicting."""
    train, seen, params = subject.train.copy(), subject.seen.copy(), copy.deepcopy(dict(subject.spec.params))
    learner = make(subject.spec)
    learner.fit(train.table, train.label, validation=(seen.table, seen.label))
    learner.predict(seen.table)
    for what, unchanged in (
        ("rows it learned from", train.table.equals(subject.train.table)),
        ("labels it learned from", np.array_equal(train.label, subject.train.label)),
        ("validation rows", seen.table.equals(subject.seen.table)),
        ("validation labels", np.array_equal(seen.label, subject.seen.label)),
        ("params", dict(subject.spec.params) == params),
    ):
        if not unchanged:
            raise Broken(f"the {what} were changed; work on a copy")


@rule
def other_columns_and_their_order_change_nothing(subject: Subject) -> None:
    """Surplus columns, and columns in another order, change no prediction."""
    import pyarrow as pa

    table = subject.seen.table
    other = table.select([*reversed(table.column_names)]).append_column("surplus", pa.array(["x"] * len(table)))
    if not np.array_equal(subject.fitted.predict(other), subject.predicted):
        raise Broken("columns in another order were predicted otherwise; take features by name, those of spec.features")


@rule
def an_unseen_category_is_a_missing_one(subject: Subject) -> None:
    """A category that it has not seen counts as missing, or is refused in words that name the feature."""
    import pyarrow as pa

    rows = len(subject.seen)
    unseen = _with(subject.seen.table, "place", pa.array(["Atlantis"] * rows))
    missing = _with(subject.seen.table, "place", pa.nulls(rows, pa.string()))
    predicted = predicted_or_refused(subject, unseen, "place", "an unseen category")
    if predicted is not None and not np.array_equal(predicted, subject.fitted.predict(missing)):
        raise Broken("an unseen category is predicted otherwise than a missing one; its code must mean nothing")


@rule
def gaps_are_predicted_or_refused_by_name(subject: Subject) -> None:
    """A row of nothing but gaps gets a finite prediction, or is refused in words that name a feature."""
    import pyarrow as pa

    schema = subject.seen.table.schema
    gaps = pa.table({field.name: pa.nulls(3, field.type) for field in schema}, schema=schema)
    predicted = predicted_or_refused(subject, gaps, FEATURES, "a row of gaps")
    if predicted is not None and not np.isfinite(predicted).all():
        raise Broken("a row of gaps has no finite prediction; fill gaps as the training rows say, or refuse them")


@rule
def a_missing_column_is_named(subject: Subject) -> None:
    """Rows without a feature that it needs are refused in words that name the feature."""
    for name in ("strength", "place"):
        lacking = subject.seen.table.drop_columns([name])
        predicted = predicted_or_refused(subject, lacking, name, f"rows without {name}")
        if predicted is not None and not np.array_equal(predicted, subject.predicted):
            raise Broken(f"rows without {name} are predicted, and otherwise; refuse them, naming the feature")


@rule
def a_column_of_another_type_is_named(subject: Subject) -> None:
    """Texts for a number, or numbers for a category, are refused in words that name the feature."""
    import pyarrow as pa

    rows = len(subject.seen)
    for name, column in (("strength", pa.array(["1.0"] * rows)), ("place", pa.array([1.0] * rows))):
        predicted = predicted_or_refused(
            subject, _with(subject.seen.table, name, column), name, f"{name} as {column.type}"
        )
        if predicted is not None and not np.array_equal(predicted, subject.predicted):
            raise Broken(f"feature {name} as {column.type} is predicted, and otherwise; refuse it, naming the feature")


@rule
def one_class_cannot_be_learned_from(subject: Subject) -> None:
    """Labels that are all of one class are refused."""
    if subject.spec.task == "regression":
        raise NotApplicable("a number has no classes")
    one = Rows(subject.train.table, np.zeros_like(subject.train.label), subject.train.classes)
    refused(lambda: subject.fit(one), "labels of one class", ("constant", "class"))


@rule
def one_row_is_learned_from_or_refused(subject: Subject) -> None:
    """A single row is refused, or for a number learned from."""
    try:
        learner = subject.fit(Rows(subject.train.table.slice(0, 1), subject.train.label[:1], subject.train.classes))
    except UserError as error:
        one_line(error, "one row to learn from")
        return
    if subject.spec.task != "regression":
        raise Broken("one row was learned from, though it has one class only")
    if not np.isfinite(learner.predict(subject.seen.table)).all():
        raise Broken("fitted on one row it predicts what is not finite; refuse one row, or predict its label")


@rule
def no_rows_cannot_be_learned_from(subject: Subject) -> None:
    """No rows to learn from are refused; no rows to predict give no predictions."""
    empty = Rows(subject.train.table.slice(0, 0), subject.train.label[:0], subject.train.classes)
    refused(lambda: subject.fit(empty), "no rows to learn from", ("no rows",))
    predicted = subject.fitted.predict(subject.seen.table.slice(0, 0))
    if predicted.shape != (0, *subject.predicted.shape[1:]):
        raise Broken(
            f"no rows to predict gave {_described(predicted)}; shape {(0, *subject.predicted.shape[1:])} expected"
        )


@rule
def nothing_is_predicted_before_a_fit(subject: Subject) -> None:
    """Asked to predict before it was fitted, it says so."""
    try:
        make(subject.spec).predict(subject.seen.table)
    except RefitError as error:
        one_line(error, "predict before fit")
        return
    raise Broken("it predicts without having been fitted; raise RefitError")


@rule
def the_search_for_iterations_is_the_fit_with_so_many(subject: Subject) -> None:
    """With validation rows it stops at its best score; fitted with just so many iterations it is the same model."""
    search, direct = make(subject.spec), make(subject.spec)
    seen = (subject.seen.table, subject.seen.label)
    report = search.fit(subject.train.table, subject.train.label, validation=seen)
    if report.iterations is None:
        raise NotApplicable("it has no iterations to find")
    direct.fit(subject.train.table, subject.train.label, iterations=report.iterations)
    if direct.digest() != search.digest():
        raise Broken(f"fitted with the {report.iterations} iterations that it found, it is another model")
    at_best = [point.validation for point in report.curve if point.iteration == report.iterations]
    if not at_best:
        raise Broken(f"its curve has no point at the {report.iterations} iterations that it found best")
    metric = subject.spec.stopping_metric
    if any(metric.gain(point.validation, at_best[0]) > 0 for point in report.curve):
        raise Broken(f"its curve has a better {metric.name} than {at_best[0]:g}, that of the iterations it calls best")
    predicted = search.predict(subject.seen.table)
    score = subject.spec.stopping_score(subject.seen.label, predicted)
    if not np.isclose(score, at_best[0], rtol=1e-4):  # some libraries score in single precision
        raise Broken(f"its curve says {at_best[0]:g} at its best iteration; its predictions score {score:g}")


@rule
def it_goes_on_where_it_says_so(subject: Subject) -> None:
    """It goes on from a fitted learner, in batches too, where it declares a warm start, and leaves that as it was."""
    before, digest, new = subject.fitted, subject.fitted.digest(), subject.train.slice(200)

    def resumed() -> Learner:
        after = make(subject.spec)
        after.resume(before, new.table, new.label, iterations=2)
        return after

    if not before.declaration.warm_start:
        refused(resumed, "a warm start", ("warm_start", "go on"))
        return
    after = resumed()
    if before.digest() != digest:
        raise Broken("going on changed the learner that it went on from; work on a copy")
    if after.digest() == digest:
        raise Broken("two steps more on other rows changed nothing")
    if resumed().digest() != after.digest():
        raise Broken("going on twice from the same learner gave two models")
    batches = [(part.table, part.label) for part in (subject.train.slice(200), subject.train)]
    if update(update(before, batches[:1]), batches[1:]).digest() != update(before, batches).digest():
        raise Broken("two batches in one call and in two gave two models")
    if before.declaration.order:
        half, seen = SEEN_ROWS // 2, subject.seen
        parts = [(seen.table.slice(at, half), seen.label[at : at + half]) for at in (0, half)]
        if update(before, parts).digest() != update(before, [(seen.table, seen.label)]).digest():
            raise Broken("a stream in two batches gave another model than in one; learn row by row, each once")
    if before.digest() != digest:
        raise Broken("learning further batches changed the learner that it went on from; work on a copy")


@rule
def rows_without_a_label_change_what_it_learns_where_it_says_so(subject: Subject) -> None:
    """Rows without a label change the model of a learner that declares their use, each time in the same way."""
    if subject.fitted.declaration.unlabelled == "ignored":
        raise NotApplicable("it declares no use of rows without a label")

    def fitted() -> Learner:
        learner = make(subject.spec)
        extra: dict[str, Any] = {"unlabelled": subject.seen.table}
        learner.fit(subject.train.table, subject.train.label, **extra)
        return learner

    first = fitted()
    if first.digest() == subject.fitted.digest():
        raise Broken("rows without a label changed nothing; declare that it ignores them")
    if fitted().digest() != first.digest():
        raise Broken("the same rows without a label gave two models; take every random number from spec.seed")
    predicted = first.predict(subject.seen.table)
    if fault := subject.spec.problem.check_predictions(predicted, len(subject.seen)):
        raise Broken(f"fitted with rows without a label, it predicts {fault}")


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    return f"a {type(value).__name__}"
