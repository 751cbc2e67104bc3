"""What a benchmark run says: tables, figures and words from its results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from benchmarks.peers import FOLDS
from pages import plots
from ad.report import markdown_table

Results = Mapping[str, object]
PARTS = {
    "extraction": plots.NORMAL_COLOUR,
    "coreset": plots.ANOMALOUS_COLOUR,
    "scores": "#009E73",
}


@dataclass(frozen=True)
class Pair:
    """The time of an alternative beside ours, in seconds."""

    what: str
    beside: str
    other: float
    ours: float

    @property
    def ratio(self) -> float:
        """Its time over ours: below 1, ours is slower."""
        return self.other / self.ours

    def times(self) -> str:
        """Write the ratio."""
        return f"{self.ratio:.0f}" if self.ratio >= 10 else f"{self.ratio:.1f}"


def coreset_pairs(results: Results) -> list[Pair]:
    """Compare the selections."""
    core, peer, own = results["coreset"], results["anomalib"], results["anomalib_shape"]

    def what(case: Mapping) -> str:
        return f"coreset, {case['n_select']:,} of {case['shape'][0]:,} x {case['shape'][1]}"

    pairs = [
        Pair(
            what(core), "the loop of patchcore-inspection, restated", core["textbook"], core["ours"]
        ),
        Pair(what(core), "one bare matrix product", core["product"], core["ours"]),
    ]
    if peer:
        pairs.append(Pair(what(own), f"anomalib {peer['version']}", peer["seconds"], own["ours"]))
    return pairs


def scoring_pairs(results: Results) -> list[Pair]:
    """Compare the searches for neighbours."""
    pairs = []
    for case in results["scoring"]:
        what = f"5 neighbours, {case['queries']:,} x {case['bank']:,} x {case['dim']}"
        pairs += [
            Pair(what, "FAISS IndexFlatL2", case["faiss_flat"], case["ours"]),
            Pair(what, "one bare matrix product", case["product"], case["ours"]),
        ]
    return pairs


def network_pairs(results: Results) -> list[Pair]:
    """Compare each network's whole-number form with its float32, per image."""
    return [
        Pair(
            f"the network an image, {case['name']} to {case['layers'][-1]}",
            "the same in PyTorch's float32",
            case["float32"],
            case["integer"],
        )
        for case in results.get("networks", [])
    ]


def line_pairs(results: Results) -> list[Pair]:
    """Compare one image on one core: the detector file and its alternatives."""
    if "line" not in results:
        return []
    line, peer = results["line"], results["line_peer"]
    what = f"one image on one core, {line['backbone']}, {line['bank']:,} rows in the banks"
    pairs = [Pair(what, "the same in PyTorch's float32", line["float32"], line["ours"])]
    if peer:
        beside = f"PatchCore exported by anomalib {peer['version']}"
        pairs.append(Pair(what, beside, peer["seconds"], line["ours"]))
    return pairs


def whole_pairs(results: Results) -> list[Pair]:
    """Compare the team's whole experiment, as it is and with its extraction counted once."""
    public, ours = results["whole"]["public"], results["whole"]["ours"]["whole"]
    what = "the team's experiment from images to F1, notebooks included"
    repeated = public["extraction"] * (FOLDS - 1) / FOLDS
    once = f"the same, its extraction counted once instead of {FOLDS} times"
    return [
        Pair(what, "the protocol with the public implementation", public["whole"], ours),
        Pair(what, once, public["whole"] - repeated, ours),
    ]


def pairs(results: Results) -> list[Pair]:
    """Compare everything."""
    return [
        *network_pairs(results),
        *coreset_pairs(results),
        *scoring_pairs(results),
        *line_pairs(results),
        *whole_pairs(results),
    ]


def seconds(value: float) -> str:
    """Write a time: below a tenth of a second in milliseconds."""
    return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.1f} ms"


def pairs_table(found: Sequence[Pair]) -> str:
    """Lay pairs out; what stands above is not repeated."""
    rows, above = [], ""
    for pair in found:
        rows.append(
            {
                "what": "" if pair.what == above else pair.what,
                "beside": pair.beside,
                "its time": seconds(pair.other),
                "ours": seconds(pair.ours),
                "ratio": pair.times(),
            }
        )
        above = pair.what
    return markdown_table(rows)


def whole_words(results: Results) -> str:
    """Say what the whole experiment's ratio is made of."""
    whole, once = whole_pairs(results)
    public = results["whole"]["public"]
    parts = ", ".join(f"{public[part]:.0f} s are {part}" for part in PARTS)
    text = (
        f"Of the public protocol's {whole.other:.0f} s, {parts}. It extracts every image again for "
        f"each of {FOLDS} folds; ours does so once. "
    )
    saved = (whole.other - once.other) / (whole.other - whole.ours)
    if whole.ratio <= 1:
        return f"{text}The whole ratio is {whole.times()}, without that {once.times()}."
    return (
        f"{text}The ratio of {whole.times()} is {'mostly' if saved > 0.5 else 'partly'} that "
        f"({saved:.0%} of the time saved): with extraction counted once it is {once.times()}."
    )


def setting_words(results: Results) -> str:
    """Say where it was measured, and on which features."""
    default, dim = results.get("default"), results["scoring"][-1]["dim"]
    where = "; ".join(f"{key}: {value}" for key, value in results["environment"].items())
    which = (
        f"Features of `{default['name']}`, {', '.join(default['layers'])}: {dim} dimensions."
        if default
        else f"**Measured before the present default network**, on features of {dim} dimensions; "
        f"`make bench` measures again."
    )
    return f"{where}\n\n{which}"


def readme_table(results: Results) -> str:
    """Make the README's table of ratios, and the words below it."""
    million, environment = results["million"], results["environment"]
    shown = [
        *network_pairs(results),
        *coreset_pairs(results),
        *scoring_pairs(results)[:2],
        *line_pairs(results),
        *whole_pairs(results),
    ]
    return (
        f"{pairs_table(shown)}\n\nThe ratio is its time over ours: below 1, ours is slower. "
        f"{whole_words(results)} One run on {environment['threads']} cores of "
        f"{environment['cpu']}; the embedded images. Selecting {million['picks']:,} of 1,000,000 "
        f"x 128 features took {million['selection']:.0f} s and {million['peak_gb']:.1f} GB; the "
        f"whole experiment's largest process {results['whole']['ours']['peak_gb']:.1f} GB. Ours, "
        f"FAISS and the products are the best of three runs; the loop, anomalib and the whole "
        f"experiments ran once."
    )


def whole_table(results: Results) -> str:
    """Lay out time and peak memory of the whole experiment."""
    return markdown_table(
        [
            {"": words, "seconds": each["whole"], "peak memory (GB)": each["peak_gb"]}
            for words, each in results["whole"].items()
        ]
    )


def pruning_table(results: Results) -> str:
    """Lay out what the triangle inequality would leave to look at."""
    return markdown_table(
        [
            {
                "picks so far": row["picks"],
                "pairs that need a look (%)": 100 * row["points_needed"],
                "blocks that need a look (%)": 100 * row["blocks_needed"],
            }
            for row in results["coreset"]["pruning"]
        ]
    )


def draw_ratios(ax: Axes, found: Sequence[Pair]) -> None:
    """Draw every ratio on a logarithmic axis."""
    names = [f"{pair.what}: {pair.beside}" for pair in found]
    ratios = np.array([pair.ratio for pair in found])
    colours = np.where(ratios >= 1, plots.NORMAL_COLOUR, plots.ANOMALOUS_COLOUR)
    ax.barh(names, ratios, color=colours)
    for y, pair in enumerate(found):
        ax.text(max(pair.ratio, 1), y, f" {pair.times()}x", va="center", fontsize=8)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(right=ratios.max() * 2)
    ax.set_xlabel("its time / our time (above 1: ours is faster)")
    ax.tick_params(axis="y", labelsize=8)
    ax.invert_yaxis()


def slope(rows: Sequence[Mapping], over: str, part: str) -> float:
    """Return the power with which a part's time grows."""
    x, y = (np.log([row[key] for row in rows]) for key in (over, part))
    return float(np.polyfit(x, y, 1)[0])


def draw_growth(axes: Sequence[Axes], growth: Mapping[str, Sequence[Mapping]]) -> None:
    """Draw each part's time over images and over the ratio, and the peak over images."""
    for ax, over, label in zip(
        axes, ("images", "ratio"), ("images", "coreset ratio"), strict=False
    ):
        rows = growth[over]
        x = [row[over] for row in rows]
        for part, colour in PARTS.items():
            words = f"{part} (slope {slope(rows, over, part):.1f})"
            ax.loglog(x, [row[part] for row in rows], "o-", color=colour, label=words)
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
        ax.set_xlabel(label)
        ax.set_ylabel("seconds")
        ax.legend(fontsize=8)
    rows = growth["images"]
    peaks = [row["peak_gb"] for row in rows]
    axes[2].plot([row["images"] for row in rows], peaks, "o-", color=plots.NEUTRAL_COLOUR)
    axes[2].set_xlabel("images")
    axes[2].set_ylabel("peak resident memory (GB)")
    axes[2].set_ylim(bottom=0)


def findings(results: Results) -> str:
    """Say what the run shows."""
    found, core, million = pairs(results), results["coreset"], results["million"]
    best = max(found, key=lambda pair: pair.ratio)
    slower = [f"{pair.what}, beside {pair.beside}" for pair in found if pair.ratio < 1]
    last, rows = core["pruning"][-1], results["growth"]["images"]
    grows = {part: f"{slope(rows, 'images', part):.1f}" for part in PARTS}
    return (
        f"On this machine the largest gain is {best.times()} times ({best.what}, beside "
        f"{best.beside}). {whole_words(results)} "
        + (
            f"Slower than the alternative: {'; '.join(slower)}. "
            if slower
            else "Nothing is slower. "
        )
        + f"Selecting {million['picks']:,} of 1,000,000 x 128 features takes "
        f"{million['selection']:.0f} s and {million['peak_gb']:.1f} GB.\n\n"
        f"The selection leaves {1 - core['measured']:.0%} of the pairs of a point and a pick "
        f"unmeasured, and takes {core['ours'] / core['product']:.2f} times the bare product of "
        f"all. With {core['n_select']:,} picks nearly made, the triangle inequality would rule out "
        f"{1 - last['points_needed']:.0%} of the single pairs, but only "
        f"{1 - last['blocks_needed']:.0%} of the blocks that a matrix product works on.\n\n"
        f"With the images the coreset's time grows with a power of {grows['coreset']} and the "
        f"scores' with {grows['scores']}: there are more features, and a bank in proportion. "
        f"Extraction grows with a power of {grows['extraction']}. One run on one machine: no "
        f"interval can be given, and another processor will shift every ratio."
    )
