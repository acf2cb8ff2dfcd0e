"""`train.start_from`: what is trained from which parent, and what is refused before anything is fitted."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from snapshots import batch_of, write_snapshot
from tiny_transformer import write_folder

from refit import learners
from refit.config import parse
from refit.errors import RefitError
from refit.files import artifacts
from refit.learners.networks.transformer.folder import Folder
from refit.models import ancestry
from refit.models.verification import MODEL
from refit.operations import cross_validation, lr_finder
from refit.runtime.context import Context
from refit.schemas.artifact import utc_moment
from refit.schemas.warm_start import Parent, Seen, WarmStart
from tests.tasks.train.conftest import BASE_RATE, FEATURES, LOGISTIC, SmallProject

PARAMS = {"hidden": [4], "epochs": 2, "batch_rows": 64, "learning_rate": 0.01}
NETWORK = {"name": "net", "kind": "mlp", "params": PARAMS}
SOURCE = "models:/base@champion"
KNOWN_AT_THE_TIME = datetime(2024, 3, 1, tzinfo=UTC)  # the test window starts then


def with_parent(project: SmallProject, **changes: Any) -> None:
    """Leave a parent's copy and `warm_start.json`, as `refit run` does."""
    rows, folder = project.rows("train"), project.folder / ".refit/parents/base-1" / MODEL
    spec = learners.Spec("net", "mlp", tuple(FEATURES), frozenset(["colour"]), PARAMS, seed=9)
    parent = learners.make(spec)
    parent.fit(rows, rows["label"].to_numpy())
    folder.mkdir(parents=True, exist_ok=True)
    parent.save(folder)
    recorded = Parent(
        source=SOURCE,
        model="base",
        version="1",
        model_digest=parent.digest(),
        manifest="0" * 64,
        seen_until=KNOWN_AT_THE_TIME,
        folder=".refit/parents/base-1",
    )
    WarmStart(parent=recorded.model_copy(update=changes)).write(project.folder / artifacts.WARM_START)


def run(project: SmallProject, **changes: Any) -> dict[str, Any]:
    settings = {"train__learners": [BASE_RATE, NETWORK], "train__start_from": SOURCE, **changes}
    return project.run(**settings)


@pytest.mark.ci
def test_the_parent_decides_the_model_and_is_a_part_of_its_identity(project: SmallProject) -> None:
    scratch = project.run(train__learners=[BASE_RATE, NETWORK])
    with_parent(project)
    first, second = run(project), run(project)
    assert first["model_digest"] == second["model_digest"] != scratch["model_digest"]
    assert first["inputs"] == second["inputs"] != scratch["inputs"]
    assert first["started_from"]["parent"]["version"] == "1"
    assert "parent" not in scratch["started_from"]
    with_parent(project, version="2")
    assert run(project)["inputs"] != first["inputs"]


@pytest.mark.parametrize(
    ("changes", "recorded", "what"),
    [
        (
            {"train__learners": [BASE_RATE, LOGISTIC]},
            {},
            r"cannot start from version 1 of base: networks can, sklearn.*LogisticRegression is none.*learners\[1\]",
        ),
        (
            {"train__learners": [{**NETWORK, "params": {**PARAMS, "hidden": [8]}}]},
            {},
            r"layers.0.bias is 4 there and 8 here; its params are hidden: \[4\], dropout: 0.1",
        ),
        ({"train__warm_start": "champion"}, {}, "starts from one model; leave warm_start or start_from out"),
        ({"train__start_from": "hf:bert"}, {}, "'hf:bert' names no version; write models:/NAME@champion"),
        ({"train__start_from": "package:bert/../.."}, {}, "names no version; .* or package:NAME/FOLDER"),
        ({"train__start_from": "models:/base/2"}, {}, "names models:/base@champion, train.start_from models:/base/2"),
        ({}, {"model_digest": "ab" * 32}, "version 1 of base was altered: its model was abababababab and is"),
        (
            {},
            {"seen_until": datetime(2024, 4, 2, tzinfo=UTC)},
            "version 1 of base has learned from data up to 2024-04-02.*, the test window starts at",
        ),
    ],
)
def test_what_cannot_start_is_one_line_before_anything_is_fitted(
    changes: dict[str, Any], recorded: dict[str, Any], what: str, project: SmallProject
) -> None:
    with_parent(project, **recorded)
    with pytest.raises(RefitError, match=what) as raised:
        run(project, **changes)
    assert "\n" not in str(raised.value)
    assert not (project.folder / artifacts.TRAINING).exists()


def test_a_parent_that_may_know_the_validation_rows_is_warned_of(project: SmallProject) -> None:
    """It may not know the test rows, but have been trained in step with this project."""
    opens = (
        project.rows("validation")["event_time"].to_numpy().min().astype("datetime64[us]").item().replace(tzinfo=UTC)
    )
    for known_until, warned in ((opens, False), (opens + timedelta(minutes=1), True)):
        said: list[str] = []
        with_parent(project, seen_until=known_until)
        run(project, said=said)
        warnings = [
            each for each in said if each.startswith("warning: version 1 of base (train.start_from) has learned")
        ]
        assert len(warnings) == warned
    assert "threshold and intervals were chosen by rows from 2024-01-01T05:00:00Z on" in warnings[0]


def test_a_file_that_names_no_parent_is_not_a_start(project: SmallProject) -> None:
    WarmStart().write(project.folder / artifacts.WARM_START)
    with pytest.raises(
        RefitError, match=r"warm_start.json names no parent, train.start_from models:/base@champion; `refit"
    ):
        run(project)


def with_parents_table(project: SmallProject, seen_before: tuple[Seen, ...] = (), **table: Any) -> None:
    """A parent of the batches that the project has too, its table described so; and what its own parent has seen."""
    with_parent(project)
    both = [batch_of("rows", month, sha256=sha256) for month, sha256 in (("2024-01", "both"), ("2024-02", "mine"))]
    write_snapshot(project.folder, both)
    parent = project.folder / ".refit/parents/base-1"
    (parent / "provenance").mkdir()
    write_snapshot(parent, both[:1]).write(parent / "provenance/snapshot.json")
    artifacts.write_json(
        parent / MODEL / "features.json", {**artifacts.read_json(project.folder / artifacts.FEATURE_SET), **table}
    )
    (parent / MODEL / "manifest.json").unlink()
    artifacts.write_manifest(parent / MODEL)
    start = WarmStart.read(project.folder / artifacts.WARM_START)
    if seen_before:
        start.model_copy(update={"seen": seen_before}).write(parent / "provenance/warm_start.json")
    seen = ancestry.seen_by(Context(project.folder, parse(project.params())), parent)
    start.model_copy(update={"seen": seen}).write(project.folder / artifacts.WARM_START)


def split(project: SmallProject, rule: str, **columns: str) -> dict[str, Any]:
    """Describe the project's table as split by this rule, with these columns of its rows; returns the description."""
    described = {**artifacts.read_json(project.folder / artifacts.FEATURE_SET), "split": rule}
    described["definitions"]["sources"]["rows"]["columns"] |= columns
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, described)
    return described


def test_the_same_rule_parts_the_same_rows_only_by_the_same_key(project: SmallProject) -> None:
    """ "0.2 of the rows" are other rows by a customer than by an order."""
    described = split(project, "0.2 of the rows, seed 0")
    with_parents_table(project)
    run(project, said=(said := []))
    assert any(each.startswith("warning: version 1 of base") for each in said), "it knows the validation rows"
    spine = {**described["definitions"]["feature_set"]["spine"], "key": "customer"}
    other = {"key": "customer", "definitions": {**described["definitions"], "feature_set": {"spine": spine}}}
    shutil.rmtree(project.folder / ".refit/parents")
    with_parents_table(project, **other)
    with pytest.raises(
        RefitError, match=r"may have learned from the test rows: .* by 0.2 of .*, key 'id' of rows; split"
    ):
        run(project)
    write_snapshot(project.folder, [batch_of("rows", "2024-02", sha256="ab")])
    run(project, said=(said := []))  # of other batches
    assert not any(each.startswith("warning: ") for each in said)


def test_a_column_that_says_the_windows_says_the_same_rows_only_by_the_same_sql(project: SmallProject) -> None:
    """ "as column part says" are other rows if `part` is computed otherwise: the parent knows test rows."""
    described = split(project, "as column part says", part="if(line % 10 = 0, 'test', 'train')")
    with_parents_table(project)
    run(project)
    sources = {"rows": {"table": "rows", "columns": {"id": "id", "part": "if(file = 't10k', 'test', 'train')"}}}
    shutil.rmtree(project.folder / ".refit/parents")
    with_parents_table(project, definitions={**described["definitions"], "sources": sources})
    with pytest.raises(
        RefitError, match=r"not split by as column part says of rows \(part: if\(line % 10 = 0"
    ) as raised:
        run(project)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("batch", ["mine", "another"], ids=["shares a batch", "shares none"])
def test_a_parents_parent_that_shares_batches_and_was_split_otherwise_is_refused(
    project: SmallProject, batch: str
) -> None:
    split(project, "0.2 of the rows, seed 0")
    before = Seen(split=None, until=KNOWN_AT_THE_TIME, batches=(batch,))
    with_parents_table(project, seen_before=(before,))
    if batch == "another":
        run(project)
        return
    with pytest.raises(RefitError, match=r"version 1 of base may .*: it, or a model that it started from, was made"):
        run(project)


def test_a_start_whose_record_does_not_say_what_it_has_seen_is_refused_where_time_separates_nothing(
    project: SmallProject,
) -> None:
    split(project, "0.2 of the rows, seed 0")
    with_parent(project)
    with pytest.raises(
        RefitError, match=r"it is not recorded what a model that it started from .* train.start_from: null"
    ):
        run(project)


def test_a_champion_that_was_split_otherwise_is_not_gone_on_with(project: SmallProject) -> None:
    split(project, "0.2 of the rows, seed 0")
    write_snapshot(project.folder, [batch_of("rows", "2024-01", sha256="mine")])
    seen = (Seen(split="0.2 of the rows, seed 1, key 'id' of rows", until=KNOWN_AT_THE_TIME, batches=("mine",)),)
    start = WarmStart(version="1", model_digest="ab", seen_until=KNOWN_AT_THE_TIME, folder="champion", seen=seen)
    start.write(project.folder / artifacts.WARM_START)
    with pytest.raises(RefitError, match=r"train.warm_start: version 1 may have .*, or set train.warm_start: null"):
        project.run(train__warm_start="champion")


def test_a_parents_parent_that_knows_the_test_window_is_refused_and_what_it_knows_becomes_the_childs(
    project: SmallProject,
) -> None:
    described = artifacts.read_json(project.folder / artifacts.FEATURE_SET)
    opens = described["windows"]["test"]["start"]
    described["windows"]["validation"]["end"] = "2024-02-15T00:00:00Z"  # the labels of later rows came too late
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, described)
    for hours, passes in ((0, True), (1, False)):
        until = utc_moment(opens) + timedelta(hours=hours)
        with_parent(project)
        start = WarmStart.read(project.folder / artifacts.WARM_START)
        seen = (Seen(split="0.2 of the rows, seed 0 of others", until=until, batches=()),)
        start.model_copy(update={"seen": seen}).write(project.folder / artifacts.WARM_START)
        if passes:
            assert utc_moment(run(project)["seen_until"]) == until
        else:
            with pytest.raises(RefitError, match="version 1 of base has learned from data up to"):
                run(project)


TRANSFORMER = {"name": "pretrained", "kind": "transformer", "params": {"epochs": 10, "head_learning_rate": 0.03}}


def with_pretrained(project: SmallProject, **changes: Any) -> None:
    """A project with a text, and the copy of a Hugging Face folder with `warm_start.json`, as `refit run` leaves it."""
    pytest.importorskip("transformers", reason="needs the extra [transformers]")
    table = project.table
    texts = [f"a w{index % 40}" for index in range(len(table))]
    project.write(table.append_column("remark", pa.array(texts)))
    described = artifacts.read_json(project.folder / artifacts.FEATURE_SET)
    described["text"], described["features"] = ["remark"], [*described["features"], "remark"]
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, described)
    folder = write_folder(project.folder / ".refit/parents/tiny-1")
    digest = Folder.read(folder).digest
    recorded = Parent(
        source="../tiny",
        model="tiny",
        version=None,
        model_digest=digest,
        manifest=digest,
        seen_until=None,
        folder=".refit/parents/tiny-1",
        pretrained=True,
    )
    WarmStart(parent=recorded.model_copy(update=changes)).write(project.folder / artifacts.WARM_START)


@pytest.mark.slow
def test_a_transformer_starts_from_a_pretrained_folder_and_others_from_nothing(project: SmallProject) -> None:
    with_pretrained(project)
    learners_of = {"train__learners": [BASE_RATE, LOGISTIC, NETWORK, TRANSFORMER], "train__start_from": "../tiny"}
    first = project.run(**learners_of)
    assert {each["name"] for each in first["learners"]} == {"base_rate", "logistic", "net", "pretrained"}
    assert project.run(**learners_of)["model_digest"] == first["model_digest"]
    only = project.run(**{**learners_of, "train__learners": [BASE_RATE, TRANSFORMER]})
    assert (only["learner"], only["started_from"]["parent"]["pretrained"]) == ("pretrained", True)
    assert (project.candidate / "encoder.json").is_file()


@pytest.mark.parametrize("split", [None, "0.2 of the rows, seed 0"])
def test_outer_folds_score_no_row_that_the_parent_may_have_learned_from(
    project: SmallProject, split: str | None
) -> None:
    described = {**artifacts.read_json(project.folder / artifacts.FEATURE_SET), "split": split}
    artifacts.write_json(project.folder / artifacts.FEATURE_SET, described)
    settings: dict[str, Any] = {"featurize__label__delay_hours": 0, "evaluate__cross_validation": {"folds": 2}}
    learners = [BASE_RATE, {**NETWORK, "params": {**PARAMS, "epochs": 1}}]
    params = parse(project.params(train__learners=learners, train__start_from=SOURCE, **settings))
    write_snapshot(project.folder, [batch_of("rows", "2024-01", sha256="mine")])

    def folds(seen_until: datetime, batch: str) -> int:
        with_parent(project, seen_until=seen_until)
        parent = project.folder / ".refit/parents/base-1"
        shutil.copyfile(project.folder / artifacts.FEATURE_SET, parent / MODEL / "features.json")
        (parent / MODEL / "manifest.json").unlink()
        artifacts.write_manifest(parent / MODEL)
        (parent / "provenance").mkdir(exist_ok=True)
        write_snapshot(parent, [batch_of("rows", batch, sha256=batch)]).write(parent / "provenance/snapshot.json")
        if split is not None:
            start = WarmStart.read(project.folder / artifacts.WARM_START)
            seen = ancestry.seen_by(Context(project.folder, params), parent)
            start.model_copy(update={"seen": seen}).write(project.folder / artifacts.WARM_START)
        return len(cross_validation.run(Context(project.folder, params)).folds)

    long_ago = datetime(2023, 1, 1, tzinfo=UTC)
    assert folds(long_ago, "another") == 2
    unfit = (KNOWN_AT_THE_TIME, "another") if split is None else (long_ago, "mine")
    what = "on, and version 1 of base .* up to 2024-03-01" if split is None else "was made from the same batches"
    with pytest.raises(RefitError, match=rf"outer folds score .*{what}.* train.start_from: null") as raised:
        folds(*unfit)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_outer_folds_in_order_of_time_start_from_a_pretrained_folder_as_training_does(project: SmallProject) -> None:
    """It is unknown what it has learned from; another project's model has learned from all up to a moment."""
    with_pretrained(project)
    settings: dict[str, Any] = {"featurize__label__delay_hours": 0, "evaluate__cross_validation": {"folds": 2}}
    quick = {**TRANSFORMER, "params": {"epochs": 2}}
    params = parse(project.params(train__learners=[BASE_RATE, quick], train__start_from="../tiny", **settings))
    assert cross_validation.run(Context(project.folder, params)).rows > 0
    with_parent(project)
    params = parse(project.params(train__learners=[BASE_RATE, NETWORK], train__start_from=SOURCE))
    with pytest.raises(RefitError, match=r"outer folds score rows from .* version 1 of base \(train.start_from\)"):
        cross_validation.run(Context(project.folder, params))


@pytest.mark.ci
def test_a_transformer_without_a_pretrained_folder_and_an_altered_one_are_refused(project: SmallProject) -> None:
    with_pretrained(project)
    with pytest.raises(RefitError, match=r"'transformer' starts from a pretrained model: name .*learners\[1\].kind"):
        project.run(train__learners=[BASE_RATE, TRANSFORMER])
    with_pretrained(project, model_digest="ab" * 32)
    with pytest.raises(RefitError, match=r"pretrained tiny in \.\./tiny was altered: its digest was abab"):
        project.run(train__learners=[BASE_RATE, TRANSFORMER], train__start_from="../tiny")


def test_a_learning_rate_is_looked_for_from_where_the_training_starts(project: SmallProject) -> None:
    with_pretrained(project)
    params = parse(project.params(train__learners=[BASE_RATE, TRANSFORMER], train__start_from="../tiny"))
    context = Context(project=project.folder, params=params)
    found = lr_finder.run(context, "pretrained", lowest=1e-4, highest=1.0, steps=12)
    assert len(found.losses) > 2
