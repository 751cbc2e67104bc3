"""Short texts and tables for the notebooks; a text of the data stands in them as it is."""

import re
from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML, Markdown

# With these a text becomes a link, a tag, a formula or code, or ends its cell. Underscores inside a
# word do nothing.
_SPECIAL = re.compile(r"[&<>\[\]`*$\\|~@]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=www)\.")


def literal(text: object) -> str:
    """Make a text of the data stand in Markdown and HTML as it is, on one line."""
    one_line = " ".join(str(text).split())
    return _SPECIAL.sub(lambda match: "".join(f"&#{ord(c)};" for c in match[0]), one_line)


def figure(value: float) -> str:
    """Write a score or a threshold: thousands in full, smaller ones with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(rows: pd.DataFrame, *, index: bool = False) -> HTML:
    """Show a table; texts are escaped, numbers have three significant digits, NaN is empty."""
    options = {"border": 0, "na_rep": "", "float_format": figure, "escape": True}
    return HTML(rows.to_html(index=index, **options))


def score_unit(*, squared: bool) -> str:
    """Name the unit of a patch score."""
    return "mean squared feature distance" if squared else "mean feature distance"


def source_note(about: Mapping[str, object]) -> Markdown:
    """Say where images and weights come from, loudly where a result means little.

    Parameters
    ----------
    about : mapping
        What stage 01 leaves in ``artifacts/features.json``.
    """
    data, weights = about["data"], about["weights"]
    lines = []
    if weights["source"] == "random":
        lines.append(
            "> **RANDOM WEIGHTS. The network was never trained, so the figures below mean "
            "nothing.** Set `backbone.weights` to a file, `package` or `hub`."
        )
    source = f" ({literal(data['source'])}; {literal(data['licence'])})" if data["source"] else ""
    attribution = f" Images: {literal(data['attribution'])}." if data["attribution"] else ""
    lines.append(
        f"{literal(data['name'])}{source}: {data['n_train']} training and {data['n_test']} test "
        f"images. Network {literal(weights['backbone'])}, weights {literal(weights['source'])}."
        f"{attribution}"
    )
    return Markdown("\n\n".join(lines))
