"""A column's name is text on the pages of Great Expectations, whatever it looks like."""

from __future__ import annotations

import html

import pandas as pd

from tasks.validate.data_docs import Pages

ODD = '"><script>alert(1)</script><img src=x onerror=alert(2)>$v__0 ${x} $$'


def test_a_columns_name_is_text_wherever_a_page_shows_it() -> None:
    import great_expectations as gx
    from great_expectations import expectations
    from great_expectations.core import ExpectationSuite

    context = gx.get_context(mode="ephemeral")
    data = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    frame = pd.DataFrame({ODD: [ODD, "b", None], "n": [1, 2, 3]})
    suite = ExpectationSuite(
        "s",
        expectations=[
            expectations.ExpectColumnValuesToBeInSet(column=ODD, value_set=[f"{ODD}x", "z"]),
            expectations.ExpectColumnValuesToNotBeNull(column=ODD),
            expectations.ExpectColumnValuesToMatchRegex(column=ODD, regex="<script>b"),
            expectations.ExpectColumnToExist(column=f"{ODD}q"),
            expectations.ExpectTableColumnsToMatchSet(column_set=[ODD, "k"]),
            expectations.ExpectCompoundColumnsToBeUnique(column_list=[ODD, "n"]),
        ],
    )
    result = data.get_batch({"dataframe": frame}).validate(suite, result_format={"result_format": "COMPLETE"})
    page = Pages().page(ODD, [result], [])
    assert "<script" not in page
    assert "<img" not in page
    assert html.escape(ODD) in page
