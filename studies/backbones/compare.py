"""Which backbone, at which cost: measured networks side by side, in tables, figures and words.

A network's result is what `studies.backbones.measure` wrote; ``quality`` is empty without weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from pages import plots
from pages.report import markdown_table
from studies.shared.uncertainty import auroc_difference

Result = Mapping[str, object]
LEVEL = 0.95
COSTS = ("seconds_per_image", "cpu_seconds_per_image", "banks_cpu_seconds", "peak_bytes")
SIZES = ("feature_bytes_per_image", "feature_bytes", "feature_dim")
FIGURES = ("image_auroc", "auroc_low", "auroc_high", "f1", "f1_low", "f1_high")


@dataclass(frozen=True)
class Comparison:
    """AUROC of a network minus the reference's, with an interval; the test images are paired."""

    name: str
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Say what the interval leaves open."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def rated(results: Sequence[Result]) -> list[Result]:
    """Keep the networks whose quality is known: weights were there, and labels of both classes."""
    return [result for result in results if "image_auroc" in result["quality"]]


def reference(results: Sequence[Result], pipeline: str) -> Result:
    """Return what others are compared with: the pipeline's network, or the first that is rated."""
    found = {result["name"]: result for result in rated(results)}
    return found.get(pipeline) or next(iter(found.values()))


def compare(
    results: Sequence[Result], labels: np.ndarray, pipeline: str, *, seed: int
) -> list[Comparison]:
    """Compare every rated network with the reference on the same test images.

    The intervals hold together: each has the level 1 - 0.05 / (number of comparisons).
    """
    if len(rated(results)) < 2:
        return []
    base = reference(results, pipeline)
    others = [result for result in rated(results) if result is not base]
    level = 1 - (1 - LEVEL) / len(others)
    scores = base["quality"]["scores"]
    return [
        Comparison(
            other["name"],
            *auroc_difference(labels, scores, other["quality"]["scores"], seed=seed, level=level),
        )
        for other in others
    ]


def layers_table(results: Sequence[Result]) -> str:
    """List what is read of each network, and where its weights come from."""
    return markdown_table(
        [
            {
                "network": r["name"],
                "parameters that run (million)": r["n_weights"] / 1e6,
                "layers (channels, stride)": ", ".join(
                    f"{layer['name']} ({layer['channels']}, {layer['reduction']})"
                    for layer in r["layers"]
                ),
                "grid": " x ".join(map(str, r["grid"])),
                "dimension": r["feature_dim"],
                "mean, deviation": "; ".join(
                    ", ".join(f"{value:g}" for value in r[key]) for key in ("mean", "std")
                ),
                "weights": f"{r['weights']}, {r['sha256'][:16]}" if r["sha256"] else r["weights"],
            }
            for r in results
        ]
    )


def cost_table(results: Sequence[Result]) -> str:
    """List what every network costs, with weights or without."""
    return markdown_table(
        [
            {
                "network": r["name"],
                "s/image": r["seconds_per_image"],
                "CPU s/image": r["cpu_seconds_per_image"],
                "banks and scores (CPU s)": f"{r['banks_cpu_seconds']:.0f}",
                "peak (GB)": f"{r['peak_bytes'] / 1e9:.2f}",
                "features (MB/image)": f"{r['feature_bytes_per_image'] / 1e6:.2f}",
                "features, all (GB)": f"{r['feature_bytes'] / 1e9:.2f}",
            }
            for r in results
        ]
    )


def _interval(quality: Mapping[str, float], value: str, low: str, high: str) -> str:
    return f"{quality[value]:.3f} ({quality[low]:.3f} to {quality[high]:.3f})"


def quality_table(results: Sequence[Result], comparisons: Sequence[Comparison]) -> str:
    """List quality where it is known, and the paired differences from the reference."""
    if not rated(results):
        return "No network here has both weights and labelled test images: there is no quality."
    found = {each.name: each for each in comparisons}
    return markdown_table(
        [
            {
                "network": r["name"],
                "image AUROC (95 %)": _interval(
                    r["quality"], "image_auroc", "auroc_low", "auroc_high"
                ),
                "beside the reference, paired": found.get(r["name"], "the reference"),
                "verdict": found[r["name"]].verdict if r["name"] in found else None,
                "F1 (95 %, threshold fixed)": _interval(r["quality"], "f1", "f1_low", "f1_high"),
                "CPU s/image": r["cpu_seconds_per_image"],
            }
            for r in rated(results)
        ]
    )


def draw_quality(ax: Axes, results: Sequence[Result]) -> None:
    """Draw the processor time of an image over AUROC with its interval."""
    for r in rated(results):
        y, own = r["cpu_seconds_per_image"], r["quality"]
        ax.hlines(y, own["auroc_low"], own["auroc_high"], color=plots.NORMAL_COLOUR)
        ax.plot(own["image_auroc"], y, "o", color=plots.NORMAL_COLOUR)
        place = {"xytext": (6, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(r["name"], (own["auroc_high"], y), fontsize=9, **place)
    ax.margins(x=0.2, y=0.2)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("image AUROC (95 %)")
    ax.set_ylabel("processor seconds an image")


def draw_cost(axes: Sequence[Axes], results: Sequence[Result]) -> None:
    """Draw time, memory and the size of the features of every network, on three Axes."""
    names = [r["name"] for r in results]
    for ax, key, unit, label in zip(
        axes,
        ("cpu_seconds_per_image", "peak_bytes", "feature_bytes"),
        (1, 1e9, 1e9),
        ("processor seconds an image", "peak memory (GB)", "features of all images (GB)"),
        strict=True,
    ):
        ax.barh(names, [r[key] / unit for r in results], color=plots.NEUTRAL_COLOUR)
        ax.set_xlabel(label)
    axes[0].invert_yaxis()


def csv_table(results: Sequence[Result]) -> tuple[list[str], list[list[object]]]:
    """Return the header and rows of backbones.csv; quality is empty where it is unknown."""
    columns = ("name", "weights", "n_weights", "n_images", "threads", *COSTS, *SIZES)
    rows = [
        [*(r[key] for key in columns), *(r["quality"].get(key) for key in FIGURES), r["missing"]]
        for r in results
    ]
    return [*columns, *FIGURES, "why_no_quality"], rows


def summary(results: Sequence[Result], comparisons: Sequence[Comparison]) -> dict[str, object]:
    """Return the study's figures by network."""
    found = {each.name: each for each in comparisons}
    figures = {}
    for r in results:
        own = figures[r["name"]] = {
            "trained": bool(r["quality"]),
            "seconds_per_image": round(r["seconds_per_image"], 3),
            "peak_gb": round(r["peak_bytes"] / 1e9, 2),
            "feature_dim": r["feature_dim"],
            "features_gb": r["feature_bytes"] / 1e9,
        }
        own |= {key: r["quality"][key] for key in FIGURES if key in r["quality"]}
        if r["name"] in found:
            each = found[r["name"]]
            own |= {"difference": each.difference, "low": each.low, "high": each.high}
    return figures


def findings(
    results: Sequence[Result],
    comparisons: Sequence[Comparison],
    pipeline: str,
    *,
    synthetic: bool,
) -> str:
    """Say which backbone, at which cost, and what is not known here."""
    parts = [_quality_words(results, comparisons, pipeline), _cost_words(results)]
    absent = [f"`{r['name']}`" for r in results if not r["quality"]]
    if absent:
        parts.append(
            f"**Cost alone is known of {', '.join(absent)}**: their weights are not on this "
            f"machine, and random ones took their place. `python -m tools.fetch_weights` fetches "
            f"them on a connected machine."
        )
    parts.append(
        "Seconds and peaks are measurements: they differ between runs and machines, and other "
        "work on the machine makes seconds longer; processor seconds suffer less. The rest is the "
        "same at every run."
        + (
            " The images are synthetic: their AUROC ranks no network for real devices."
            if synthetic
            else ""
        )
    )
    return "\n\n".join(parts)


def _quality_words(
    results: Sequence[Result], comparisons: Sequence[Comparison], pipeline: str
) -> str:
    if not rated(results):
        return "No quality is known here: it needs weights and test labels of both classes."
    base = reference(results, pipeline)
    costs = {r["name"]: r["cpu_seconds_per_image"] for r in results}
    interval = _interval(base["quality"], "image_auroc", "auroc_low", "auroc_high")
    text = f"**`{base['name']}` has image AUROC {interval}.**"
    if not comparisons:
        return f"{text} No other network has weights here, so there is nothing to compare."

    def named(verdict: str) -> list[str]:
        return [
            f"`{each.name}` by {each} at {costs[each.name] / costs[base['name']]:.1f} times its "
            f"processor time"
            for each in comparisons
            if each.verdict == verdict
        ]

    text += f" Beside it, on the same {len(base['quality']['scores'])} test images: "
    text += "; ".join(
        f"{word}: {', '.join(named(verdict)) or 'none'}"
        for verdict, word in (
            ("better", "better"),
            ("worse", "worse"),
            ("not told apart", "not told apart from it"),
        )
    )
    text += (
        f". The images are paired; the {len(comparisons)} interval(s) hold together at "
        f"{LEVEL:.0%}. "
    )
    return text + _answer(comparisons, costs, base["name"])


def _answer(comparisons: Sequence[Comparison], costs: Mapping[str, float], base: str) -> str:
    better = [each.name for each in comparisons if each.verdict == "better"]
    if better:
        cheapest = min(better, key=costs.get)
        return f"So a change pays: `{cheapest}` is the cheapest of those that are better."
    alike = [base, *(each.name for each in comparisons if each.verdict == "not told apart")]
    cheapest = min(alike, key=costs.get)
    answer = "So nothing here speaks for a dearer network"
    if cheapest == base:
        answer += f" than `{base}`"
    else:
        answer += f", and `{cheapest}`, which the test images do not tell from `{base}`, is cheaper"
    return f"{answer}. Not told apart is not the same as equal."


def _cost_words(results: Sequence[Result]) -> str:
    slowest = max(results, key=lambda r: r["cpu_seconds_per_image"])
    fastest = min(results, key=lambda r: r["cpu_seconds_per_image"])
    largest = max(results, key=lambda r: r["peak_bytes"])
    smallest = min(results, key=lambda r: r["peak_bytes"])
    ratio = slowest["cpu_seconds_per_image"] / fastest["cpu_seconds_per_image"]
    return (
        f"Of all {len(results)} networks `{fastest['name']}` takes the least processor time an "
        f"image and `{slowest['name']}` the most, {ratio:.1f} times as much. The peak goes from "
        f"{smallest['peak_bytes'] / 1e9:.2f} GB (`{smallest['name']}`) to "
        f"{largest['peak_bytes'] / 1e9:.2f} GB (`{largest['name']}`)."
    )
