"""Files whose columns are not the declared ones: renamed, missing, or not wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from refit.errors import UserError

Month = Callable[..., str]
OLD = "trip id,at,kind,price,bike\n7,2012-12-30,a,2.5,x\n8,2012-12-31,b,3,y\n"
LAYOUT = {
    "files": "old*.csv",
    "renamed": {"id": "trip id", "cost": "price"},
    "ignored": ["bike"],
}


@pytest.fixture
def renamed(project: Any, month: Month) -> Any:
    """Files with the declared columns, and an older one with others."""
    project.put("2013.csv", month(1, range(1, 32)))
    project.put("old.csv", OLD)
    return project


def test_files_with_other_columns_are_mapped_to_one_schema(renamed: Any) -> None:
    renamed.source["layouts"] = [LAYOUT]
    renamed.ingest()
    rows = [(row["id"], row["kind"], row["cost"]) for row in renamed.batch("2012-12")]
    assert rows == [(7, "a", 2.5), (8, "b", 3.0)]
    assert len(renamed.batch("2013-01")) == 31
    assert set(renamed.batch("2012-12")[0]) == {"id", "at", "kind", "cost", "_row", "_event_time"}


def test_a_column_that_is_missing_from_some_files_has_no_value_there(project: Any, month: Month) -> None:
    project.put("2013.csv", month(1, range(1, 32)))
    project.put("old.csv", "id,at,cost\n7,2012-12-30,2.5\n")
    project.source["layouts"] = [{"files": "old.csv", "missing": ["kind"]}]
    project.ingest()
    assert [(row["id"], row["kind"], row["cost"]) for row in project.batch("2012-12")] == [(7, None, 2.5)]


def test_a_required_column_that_is_missing_sets_its_rows_aside(project: Any, month: Month) -> None:
    project.put("2013.csv", month(1, range(1, 32)))
    project.put("old.csv", "at,kind,cost\n2013-01-07,a,2.5\n")
    project.source["layouts"] = [{"files": "old.csv", "missing": ["id"]}]
    project.ingest()
    assert [line[2:] for line in project.uncast("2013-01")] == [("id", None, "is required and missing")]


def test_parquet_is_mapped_too_and_a_column_of_another_type_is_cast(project: Any, month: Month) -> None:
    project.put("2013.csv", month(1, range(1, 32)))
    table = pa.table({"trip": ["7"], "at": ["2012-12-30"], "kind": [5], "cost": [2.5], "more": [[1, 2]]})
    path = project.put("old.parquet", b"")
    pq.write_table(table.drop_columns("more"), path)
    project.source |= {"path": "raw/*", "layouts": [{"files": "*.parquet", "renamed": {"id": "trip"}}]}
    project.ingest()
    assert [(row["id"], row["kind"]) for row in project.batch("2012-12")] == [(7, "5")]


def test_the_first_layout_that_fits_counts(renamed: Any) -> None:
    renamed.source["layouts"] = [LAYOUT, {"files": "*", "missing": ["kind"]}]
    assert "raw/2013.csv: column 'kind' (near 'id') is not declared" in renamed.fails(UserError)


def test_a_refusal_proposes_the_layout_that_lets_the_file_in(renamed: Any) -> None:
    said = renamed.fails(UserError)
    assert "add to ingest.sources.trips.layouts: [" in said
    proposed = yaml.safe_load(re.findall(r"layouts: (\[.*\])", said)[0])
    assert proposed == [
        {"files": "old.csv", "renamed": {"id": "trip id"}, "missing": ["cost"], "ignored": ["price", "bike"]}
    ]
    renamed.source["layouts"] = proposed
    renamed.ingest()
    assert [row["cost"] for row in renamed.batch("2012-12")] == [None, None]


def test_the_proposed_layout_fits_a_name_that_is_itself_a_pattern(project: Any) -> None:
    project.put("trips[1].csv", "id,at,kind,price\n1,2013-01-31T20:00:00Z,a,1\n")
    said = project.fails(UserError)
    project.source["layouts"] = yaml.safe_load(re.findall(r"layouts: (\[.*\])", said)[0])
    project.ingest()
    assert [row["id"] for row in project.batch("2013-01")] == [1]


def test_a_file_that_shares_no_column_is_refused_without_a_proposal(project: Any) -> None:
    project.put("a.csv", "what,else\n1,2\n")
    assert "layouts" not in project.fails(UserError)


def test_another_layout_is_read_again_and_seen_as_a_change(renamed: Any) -> None:
    renamed.source["layouts"] = [LAYOUT]
    renamed.ingest()
    renamed.source["layouts"] = [
        {**LAYOUT, "renamed": {"id": "trip id"}, "missing": ["cost"], "ignored": ["bike", "price"]}
    ]
    assert "batch trips/2012-12 has changed" in renamed.fails(UserError)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"renamed": {"ids": "x"}}, "layouts[0]: 'ids' is not declared; did you mean 'id'?"),
        ({"missing": ["costs"]}, "layouts[0]: 'costs' is not declared; did you mean 'cost'?"),
        ({"missing": ["cost"], "renamed": {"cost": "x"}}, "layouts[0]: 'cost' is both renamed and missing: drop one"),
        ({"renamed": {"cost": "kind"}}, "layouts[0]: column 'kind' of these files would be read twice"),
        ({"ignored": ["kind"]}, "layouts[0]: column 'kind' of these files would be read twice"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_in_one_line(project: Any, layout: Any, said: str) -> None:
    project.source["layouts"] = [{"files": "*", **layout}]
    with pytest.raises(UserError) as caught:
        project.context()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_without_a_header_have_no_layouts(project: Any) -> None:
    project.source |= {"header": False, "layouts": [{"files": "*", "missing": ["cost"]}]}
    with pytest.raises(UserError, match="`layouts` is for files that name their columns"):
        project.context()
