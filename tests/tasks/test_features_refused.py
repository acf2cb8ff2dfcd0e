"""What the stage `featurize` refuses: rows, windows and definitions that fit no learning."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from refit.errors import UserError
from refit.files import artifacts
from refit.schemas.validated import Validated
from tasks import featurize
from tasks.featurize.warehouse import open_warehouse
from tests.tasks.orders import FEATURES, RAW, Project, orders, projects_in


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects_in(tmp_path)


ALL_BACK = [{**row, "returned": True} for row in orders()]
NO_LABEL = [{**row, "returned": None} for row in orders()]
TWICE = [*orders(), {**orders()[5], "ordered": orders()[900]["ordered"]}]
IN_VIEW = FEATURES.replace('source="placed"', 'source="settled"')


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"rows": ALL_BACK}, "label 'returned' is 1 in all .* rows of the train window"),
        ({"rows": NO_LABEL}, "no row with a label lies in the train window"),
        ({"rows": TWICE}, r"source 'placed' has 2 rows with id = \d+"),
        (
            {"changes": {"featurize.label.column": "price"}},
            r"label settled\.price holds '10\.0', '11\.0', .* needs 0 and 1",
        ),
        ({"changes": {"featurize.label.column": "returnd"}}, "'returnd' is unknown; did you mean 'returned'"),
        ({"changes": {"featurize.label.source": "setled"}}, "'setled' is unknown; did you mean 'settled'"),
        ({"changes": {"featurize.exclude": ["rat"]}}, "featurize.exclude: pattern 'rat' matches no feature"),
        (
            {"changes": {"featurize.definitions": "feature.py"}},
            "no file feature.py in the project; did you mean 'features.py'",
        ),
        ({"changes": {"featurize.definitions": "../features.py"}}, r"no file \.\./features\.py in the project"),
        ({"changes": {"featurize.definitions": "no.such.module"}}, "there is no module 'no'"),
        ({"changes": {"featurize.definitions": "json"}}, r"json has no FEATURES; .*FEATURES = FeatureSet"),
        ({"changes": {"featurize.split": {"by": "custmer"}}}, "split.by: source 'placed' has no column 'custmer'; did"),
        ({"features": "FEATURES = 3"}, r"features\.py has FEATURES as a int"),
        ({"features": "FEATURES = "}, r"features\.py cannot be imported: SyntaxError"),
        (
            {"features": FEATURES.replace('function="rate"', 'function="rat"')},
            "features.py cannot be imported: .*function",
        ),
        (
            {"features": FEATURES.replace('source="customers"', 'source="costumers"')},
            "'costumers'.*did you mean 'customers'",
        ),
        ({"features": FEATURES.replace('sql="price"', 'sql="prise"')}, 'features.py: price: .*"?prise"? not found'),
        ({"features": FEATURES.replace("30 minute", "2 hour")}, "known only after their prediction_time"),
        ({"features": IN_VIEW}, "known only after their prediction_time"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(project: Project, how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        featurize.run(project(**how))
    assert "\n" not in str(caught.value)


def one_source(features: str) -> tuple[dict[str, Any], str]:
    """Orders as one event source that is known at once, which is what a careless user declares."""
    plain = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    del plain["events"]
    changes = {"ingest.sources.orders": plain, "featurize.label": {"source": "orders", "column": "returned"}}
    return changes, features.replace('"placed"', '"orders"').replace('"settled"', '"orders"').replace(
        "30 minute", "0 minute"
    )


def test_a_row_does_not_show_its_own_label(project: Project) -> None:
    changes, features = one_source(FEATURES.replace('sql="price"', 'sql="returned"'))
    changes["featurize.exclude"] = ["rate_*", "last_secret"]
    with pytest.raises(UserError, match=r"features.py: price: .*returned"):
        featurize.run(project(changes, features=features))


def test_a_view_that_would_count_the_row_itself_is_refused(project: Project) -> None:
    changes, features = one_source(FEATURES)
    with pytest.raises(UserError, match="rows would be predicted from their own labels"):
        featurize.run(project(changes, features=features))


def test_a_source_cut_by_an_expression_that_sees_other_rows_is_refused(project: Project) -> None:
    column = "ingest.sources.orders.events.settled.columns.secret"
    with pytest.raises(UserError, match=r"source 'settled' .*secret: .* the window function lead"):
        featurize.run(project({column: "lead(secret) over (order by ordered)"}))
    with pytest.raises(UserError, match=r"source 'settled' \(params.yaml: ingest.sources.orders\): .*secrt"):
        featurize.run(project({column: "secrt"}))


def test_two_event_sources_of_one_name_are_refused(project: Project) -> None:
    twin = copy.deepcopy(RAW["ingest"]["sources"]["orders"])
    with pytest.raises(UserError, match="two event sources are called 'placed'"):
        featurize.run(project({"ingest.sources.others": twin}))


def test_expressions_of_the_params_see_no_file_of_the_machine(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")

    context = project()
    validated = Validated.read(context.path(artifacts.VALIDATED))
    with open_warehouse(context.project, validated, context.params) as warehouse:
        with pytest.raises(Exception, match="disabled by configuration"):
            warehouse.connection.execute(f"select * from read_csv('{tmp_path / 'other.csv'}')").fetchall()
        with pytest.raises(Exception, match="locked"):
            warehouse.connection.execute("set enable_external_access = true")
