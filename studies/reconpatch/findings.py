"""What the study finds, in words made from its numbers: each with an interval or a paired test."""

from collections.abc import Mapping, Sequence

import numpy as np

from pages.report import markdown_table
from studies.reconpatch.choice import Candidate, fewest_dimensions, synthetic_losses
from studies.reconpatch.methods import ISOMETRIES, LEARNT, METHODS, start_name
from studies.reconpatch.results import Key, Results
from studies.shared.uncertainty import auroc_difference, spearman

Losses = Mapping[Key, tuple[float, float]]  # the loss, and its upper bound


def compare(
    labels: np.ndarray | None,
    pairs: Mapping[tuple[str, int], tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    level: float = 0.95,
) -> list[dict[str, object]]:
    """Compare reductions on test images; the intervals hold together (Bonferroni).

    Parameters
    ----------
    labels : array of int, shape (n_test,), or None
        Without labels there is nothing to compare.
    pairs : mapping
        By what stands beside, and dimensions: its scores and those in question, each of shape
        (n_runs, n_test); images and pairs of runs are drawn again.
    level : float
        Of all intervals together.
    """
    rows = []
    for (beside, n), (theirs, ours) in pairs.items() if labels is not None else ():
        own = 1 - (1 - level) / len(pairs)
        found = auroc_difference(labels, theirs, ours, seed=seed, level=own, repeats=20_000)
        figures = dict(zip(("difference", "low", "high"), found, strict=True))
        rows.append({"beside": beside, "dimensions": n} | figures)
    return rows


def comparisons(results: Results, *, seed: int) -> list[dict[str, object]]:
    """Compare the short ReConPatch with pooling and with its start, in every dimension."""

    def runs(method: str, n: int) -> np.ndarray:
        scores = results.scores[method, n]
        return scores.reshape(-1, scores.shape[-1])

    pairs = {
        (other, n): (runs(other, n), runs(LEARNT, n))
        for n, whitening in results.starts.items()
        for other in dict.fromkeys(["pooling", start_name(whitening)])
        if (other, n) in results.scores
    }
    return compare(results.labels, pairs, seed=seed)


def losses(results: Results, *, confidence: float, seed: int) -> tuple[Losses, Losses]:
    """Return each reduction's loss against pooling in the most dimensions, and its upper bound.

    The bounds hold for all methods together (Bonferroni).  Turned features lose nothing: their
    distances are the same, so no test is needed.

    Returns
    -------
    synthetic, test : dict
        On synthetic anomalies, and on test images (empty without labels).
    """
    level = 1 - (1 - confidence) / len(results.methods)
    full = ("pooling", results.dimensions[0])
    reference = results.candidate(full)
    synthetic = synthetic_losses(results.candidates, reference, level=level, seed=seed)
    test = {}
    for key, scores in results.scores.items() if results.labels is not None else ():
        n = scores.shape[-1]
        runs = results.scores[full].reshape(-1, n), scores.reshape(-1, n)
        difference, low, _ = auroc_difference(
            results.labels, *runs, seed=seed, level=2 * level - 1, repeats=10_000
        )
        test[key] = -difference, -low
    unchanged = ISOMETRIES if results.whole else ISOMETRIES[:1]
    turned = {(method, results.dimensions[0]): (0.0, 0.0) for method in unchanged}
    return synthetic | turned, test | turned if test else test


def loss_table(found: Losses) -> str:
    """Lay out losses and their bounds by method and dimensions."""
    dimensions = sorted({n for _, n in found}, reverse=True)
    rows = [
        {"method": method}
        | {
            str(n): "{:+.3f} (below {:+.3f})".format(*found[method, n])
            if (method, n) in found
            else None
            for n in dimensions
        }
        for method in dict.fromkeys(name for name, _ in found)
    ]
    return markdown_table(rows)


def fewest_findings(found: Losses, on: str, *, margin: float, confidence: float) -> str:
    """Answer how few dimensions will do, on one kind of evidence."""
    methods = list(dict.fromkeys(name for name, _ in found))
    fewest = {method: fewest_dimensions(dict(found), method, margin) for method in methods}
    reached = {method: n for method, n in fewest.items() if n is not None}
    claim = f"costing less than {margin:g} of AUROC with {confidence:.0%} confidence"
    largest = max(n for _, n in found)
    best = min(reached, key=lambda method: (reached[method], METHODS.index(method)), default=None)
    if best is None or reached[best] == largest:
        fewer = [most for (_, n), (_, most) in found.items() if n < largest]
        rest = (
            f"the smallest loss that can be excluded in fewer is {min(fewer):.3f}" if fewer else ""
        )
        return (
            f"On {on} no fewer than {largest} dimensions can be shown to do, "
            f"{claim}: {rest or 'none were tried'}."
        )
    others = "; ".join(f"{method}: {n or 'none'}" for method, n in fewest.items())
    loss, most = found[best, reached[best]]
    return (
        f"On {on} **{reached[best]} dimensions** will do, by {best}, {claim}: its loss is "
        f"{loss:+.3f}, below {most:+.3f}. The fewest of each method: {others}."
    )


def helps(rows: Sequence[Mapping[str, object]], name: str) -> str:
    """Say in a sentence whether a method beats those beside it, by its simultaneous intervals."""
    if not rows:
        return f"Without labels nothing here says whether {name} finds more anomalies."
    better = [r for r in rows if r["low"] > 0]
    worse = [r for r in rows if r["high"] < 0]

    def listed(chosen: Sequence[Mapping[str, object]]) -> str:
        return "; ".join(
            f"{r['beside']} in {r['dimensions']} ({r['difference']:+.4f}, "
            f"{r['low']:+.4f} to {r['high']:+.4f})"
            for r in chosen
        )

    parts = [f"better than {listed(better)}"] if better else []
    parts += [f"worse than {listed(worse)}"] if worse else []
    rest = len(rows) - len(better) - len(worse)
    largest = max(rows, key=lambda r: abs(r["difference"]))
    together = "The intervals hold together at 95 %."
    if not parts:
        return (
            f"In none of {len(rows)} comparisons can {name} be told from what stands beside it; "
            f"the largest difference is {listed([largest])}. {together}"
        )
    return (
        f"{name[0].upper()}{name[1:]} is {', and '.join(parts)}; in {rest} of {len(rows)} "
        f"comparisons it cannot be told from what stands beside it. {together}"
    )


def choice_findings(results: Results, chosen: Candidate) -> str:
    """Say which map was chosen without labels, and how the test images see it."""
    key = chosen.method, chosen.n_components
    text = (
        f"Without labels **{chosen.method} in {chosen.n_components} dimensions** is chosen. By "
        "kind of synthetic anomaly its AUROC is "
        + ", ".join(f"{kind} {value:.3f}" for kind, value in chosen.by_kind().items())
        + "."
    )
    if results.labels is None:
        return text + " Without labels nothing here says which reduction finds more anomalies."
    measured = [results.over_seeds((c.method, c.n_components))[0] for c in results.candidates]
    full = ("pooling", results.dimensions[0])
    as_they_are = f"pooling in {full[1]}{', the features as they are,' if results.whole else ''}"
    rank = spearman([c.quality for c in results.candidates], measured)
    return text + (
        " Its {} on test images is {:.4f} ± {:.4f}".format(results.words, *results.over_seeds(key))
        + f" (mean and standard deviation over seeds); {as_they_are} gives "
        f"{results.over_seeds(full)[0]:.4f}, the best of {len(measured)} candidates "
        f"{max(measured):.4f}. Over the candidates the synthetic AUROC ranks as the labels do with "
        f"a correlation of {rank:.2f}. One data set does not tell which method wins on another."
    )
