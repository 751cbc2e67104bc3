"""Short texts and tables for the notebooks, made from a run's numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ad.data import ImageRecord, of_split
from ad.determinism import sha256_array
from ad.images import InputRule

if TYPE_CHECKING:  # its import takes seconds, and most pages show no network
    from ad.backbone import LayerInfo

# With these a text becomes a link, a tag, a formula or code, or ends its cell. Underscores inside a
# word do nothing.
_SPECIAL = re.compile(r"[&<>\[\]`*$\\|~@]|(?<![^\W_])_|_(?![^\W_])|(?<=:)//|(?<=www)\.")


def literal(text: object) -> str:
    """Make a text of the data stand in Markdown and HTML as it is, on one line."""
    one_line = " ".join(str(text).split())
    return _SPECIAL.sub(lambda match: "".join(f"&#{ord(c)};" for c in match[0]), one_line)


def code(text: object) -> str:
    """Make a text of the data stand as code in Markdown."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39)) or ' '}`"


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out rows as a Markdown table; floats get three decimals, ``None`` an empty cell.

    Texts stand there as they are: no Markdown or HTML in them takes effect.
    """
    if not rows:
        return ""

    def cell(value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, float | np.floating):
            return f"{value:.3f}"
        return literal(value)

    header = list(rows[0])
    cells = [[cell(row[key]) for key in header] for row in rows]
    lines = [[cell(key) for key in header], ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def arithmetic(dtype: str, unit: float, share: float | None) -> str:
    """Say in what numbers features are.

    Parameters
    ----------
    dtype : str
    unit : float
        What a difference of 1 stands for.
    share : float or None
        Of the bound that the largest sum of the network can reach; ``None`` for float32.
    """
    if share is None:
        return (
            "Arithmetic: float32, as the library computes it; sums round differently from one "
            "processor to another."
        )
    return (
        f"Arithmetic: whole numbers. Weights, maps and features are bytes, and the largest sum "
        f"that any layer can reach is {share:.0%} of 2^24, below which every sum is exact in any "
        f"order: the bits are the same on every machine. A feature is {-127 * (dtype == 'int8')} "
        f"to 127 in units of {unit:.4g}."
    )


def inputs_note(inputs: Mapping[str, object]) -> str:
    """State in Markdown where the images and the weights come from, loudly where they mean less.

    Parameters
    ----------
    inputs : mapping
        What ``artifacts/inputs.json`` holds: ``data`` and ``weights``.
    """
    data, weights = inputs["data"], inputs["weights"]
    lines = []
    if weights["source"] == "random":
        lines.append(
            "> **RANDOM WEIGHTS. The backbone was never trained, so quality figures below are "
            "near chance and mean nothing.** Set `backbone.weights` to a file or `hub`."
        )
    if data["synthetic"]:
        lines.append(
            "> **Synthetic images.** These are the repository's own drawings of transistors; the "
            "figures below say nothing about real devices."
        )
    digest = f", SHA-256 `{weights['sha256'][:16]}`" if weights["sha256"] else ""
    lines.append(
        f"Images: {data['n_train']} training and {data['n_test']} test images, {data['layout']} "
        f"layout, SHA-256 of all `{data['sha256'][:16]}`. "
        f"Backbone: {code(weights['backbone'])}, weights {code(weights['source'])}{digest}."
    )
    return "\n\n".join(lines)


def figure(value: float) -> str:
    """Write a score or a threshold: thousands in full, smaller ones with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def score_unit(*, squared: bool) -> str:
    """Name the unit of a patch score."""
    return "mean squared feature distance" if squared else "mean feature distance"


def images_table(records: Sequence[ImageRecord]) -> str:
    """Count a data set's images by split and label."""
    rows = []
    for split in ("train", "test"):
        images = of_split(records, split)
        labels = [record.label for record in images]
        rows.append(
            {
                "split": split,
                "images": len(images),
                "normal": labels.count(0),
                "anomalous": labels.count(1),
                "unlabelled": labels.count(None),
                "sizes (pixels)": ", ".join(sorted({f"{r.width} x {r.height}" for r in images})),
                "modes": ", ".join(sorted({r.mode for r in images})),
            }
        )
    return markdown_table(rows)


def one_of_each_defect(records: Sequence[ImageRecord], n: int) -> list[int]:
    """Choose n test images spread over the defects, anomalous ones first; return their numbers."""
    test = sorted(
        (number for number, record in enumerate(records) if record.split == "test"),
        key=lambda k: (records[k].label != 1, records[k].defect or "", records[k].id),
    )
    return test[:: max(1, len(test) // n)][:n]


def network_table(layers: "Sequence[LayerInfo]", rule: InputRule) -> str:
    """List the layers that are read, and say how a picture becomes the input."""
    rows = [
        {"layer": each.name, "channels": each.channels, "pixels a position": each.reduction}
        for each in layers
    ]
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (rule.mean, rule.std))
    way = "straight" if rule.resize is None else f"over {rule.resize} and a centre crop"
    tiled = f" in {rule.tiles} x {rule.tiles} tiles of {rule.size}" if rule.tiles > 1 else ""
    if rule.region is not None:
        tiled += f", of the region {', '.join(f'{share:g}' for share in rule.region)}"
    return (
        f"{markdown_table(rows)}\n\nInput: {rule.side} x {rule.side} pixels{tiled}, resized {way} "
        f"({rule.resample.name.lower()}); mean {mean}, standard deviation {std}."
    )


def coreset_table(coresets: Mapping[str, np.ndarray], patches_per_image: int) -> str:
    """Describe coresets, given by name as rows of patches."""
    return markdown_table(
        [
            {
                "coreset": name,
                "selected": len(rows),
                "images in it": len(np.unique(rows // patches_per_image)),
                "SHA-256": sha256_array(rows)[:12],
            }
            for name, rows in coresets.items()
        ]
    )
