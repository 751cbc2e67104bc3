"""Pages: what the browser is given of a notebook's outputs."""

import pandas as pd

from tools.pages import box_tables, clean


def test_headers_of_a_table_span_their_columns():
    index = pd.MultiIndex.from_product([["fold 0"], ["max", "mean"]])
    columns = pd.MultiIndex.from_product([["score"], ["low", "high"]])
    table = pd.DataFrame([[1, 2], [3, 4]], index, columns)
    page = box_tables(clean(table.to_html()))
    assert '<th colspan="2">score</th>' in page
    assert '<th rowspan="2">fold 0</th>' in page
    assert "<th></th>" not in page


def test_long_tables_are_folded():
    short, long = (pd.DataFrame({"x": range(n)}).to_html() for n in (12, 13))
    page = box_tables(clean(short + long))
    assert page.count("<table") == 2 and page.count("<details>") == 1
    assert "<summary>Table of 13 rows</summary>" in page
