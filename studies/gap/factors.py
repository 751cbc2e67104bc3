"""Factors of a run, in groups: each function changes one thing at a time and yields rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from timm.models import list_pretrained
from torch import Tensor

from ad.backbone import Backbone
from ad.dataset import of_split
from ad.metrics import f1_score
from ad.protocol import CrossValidated
from studies.gap.case import Case, cross_validated, default_tag, run_elsewhere
from studies.gap.interventions import (
    CHOICE,
    MISTAKE,
    REENACTED,
    Change,
    Control,
    Row,
    decide,
    detect,
)
from studies.gap.listings import hash_order, natural_order, raw_listings, unpadded_order
from studies.gap.loaders import DECODERS, load_opencv, run_network


def listing_orders(case: Case, split: str) -> dict[str, np.ndarray]:
    """Give each order of a split's images as image numbers within the split, sorted first.

    The last ones are raw orders of file systems; the first of them is that of the data.
    """
    paths = [record.path for record in of_split(case.records(), split)]
    number = {path: position for position, path in enumerate(paths)}
    listed = {
        "sorted": paths,
        "reversed": paths[::-1],
        "natural": natural_order(paths),
        "unpadded": unpadded_order(paths),
        "by hash": hash_order(paths),
        **raw_listings(case.data, paths),
    }
    return {name: np.array([number[path] for path in order]) for name, order in listed.items()}


def order_factors(control: Control) -> Iterator[Row]:
    """Join test rows by position; list training images in another order; mix two listings."""
    group, case, outcome = "order", control.case, control.outcome
    for name, order in listing_orders(case, "test").items():
        if name == "sorted":
            continue
        # Scores come in listing order and are written beside the sorted ids.
        same = bool((order == np.arange(len(order))).all())
        yield control.row(
            f"test rows by position, {name} listing",
            group,
            outcome.flags[order],
            kind=MISTAKE,
            how=REENACTED,
            scores=outcome.scores[order],
            note="this order is the sorted one here" if same else "",
        )
    n_train = control.n_train
    test_orders = listing_orders(case, "test")
    for name, order in listing_orders(case, "train").items():
        if name != "by hash" and not name.startswith("raw"):
            continue
        listed = control.features.copy()
        listed[:n_train] = listed[order]
        found = detect(listed, n_train, case)
        yield control.row(f"training images, {name} listing", group, found)
        if name == "by hash":
            mixed = detect(control.features, n_train, case, Change(bank_features=listed))
            yield control.row(
                "banks and held-out images from two listings", group, mixed, kind=MISTAKE
            )
        else:  # a script that sorts nowhere
            yield control.row(
                f"training images and test rows, {name} listing",
                "pairs",
                found.flags[test_orders[name]],
                kind=MISTAKE,
                how=REENACTED,
                scores=found.scores[test_orders[name]],
            )


def permuted_f1(labels: np.ndarray, flags: np.ndarray, *, repeats: int, seed: int) -> np.ndarray:
    """Return F1 of flags in ``repeats`` random row orders, shape (repeats,)."""
    generator = np.random.default_rng(seed)
    return np.array([f1_score(labels, generator.permutation(flags)) for _ in range(repeats)])


def best_f1_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the score at which F1 is best, the lowest of several; as F1AdaptiveThreshold does.

    Without anomalous images every F1 is 0, so the lowest score is taken and nearly everything is
    flagged (anomalib's issues 2433 and 3357).

    Parameters
    ----------
    labels : array of int, shape (n,)
    scores : array of float, shape (n,)
    """
    candidates = np.sort(scores)
    flagged = scores >= candidates[:, None]  # (candidates, n)
    hits = (flagged & (labels == 1)).sum(axis=1)
    return float(candidates[np.argmax(2 * hits / (flagged.sum(axis=1) + (labels == 1).sum()))])


def adaptive_threshold(held_out: Sequence[np.ndarray]) -> float:
    """Average over the folds the thresholds of best F1 on their normal images."""
    return float(np.mean([best_f1_threshold(np.zeros(len(own)), own) for own in held_out]))


def threshold_factors(control: Control) -> Iterator[Row]:
    """Change the threshold's rule, the aggregation, or mistake one for another."""
    group, outcome = "threshold", control.outcome
    folds, held_out = outcome.folds, outcome.folds.held_out
    for rule in ("quantile:0.99", "quantile:0.95", "mean_sd:3"):
        yield control.row(f"threshold {rule}", group, decide(folds, rule=rule), kind=CHOICE)
    for how in ("mean", "median"):
        found = decide(folds, aggregate=how)
        yield control.row(f"folds' scores by {how}", group, found, kind=CHOICE)
    yield control.row(
        "threshold of best F1 on normal-only data (the minimum)",
        group,
        replace(outcome, threshold=adaptive_threshold(held_out)),
        kind=MISTAKE,
    )
    first = decide(CrossValidated(held_out[:1], folds.fold_scores[:1]))
    yield control.row("first fold only", group, first, kind=CHOICE)
    squares = outcome.scores**2 if not control.case.score.squared else outcome.scores
    root = (
        outcome.threshold if not control.case.score.squared else float(np.sqrt(outcome.threshold))
    )
    yield control.row(
        "squared scores against a plain threshold",
        group,
        replace(outcome, scores=squares, threshold=root),
        kind=MISTAKE,
    )
    spread = outcome.scores - outcome.scores.min()
    yield control.row(
        "0.5 of scores scaled to 0..1 on the test set",
        group,
        replace(outcome, scores=spread / spread.max(), threshold=0.5),
        kind=MISTAKE,
    )
    yield control.row(
        "labels flipped",
        group,
        ~outcome.flags,
        kind=MISTAKE,
        how=REENACTED,
        scores=-outcome.scores,
    )


def seed_factors(control: Control, *, repeats: int) -> Iterator[Row]:
    """Change each seed alone, then all of them ``repeats`` times: the median and widest run."""
    group, case = "seeds", control.case
    features, n_train = control.features, control.n_train
    other = case.seed + 1
    for name, change in (
        ("start of the coreset", Change(start_seed=other)),
        ("projection", Change(projection_seed=other)),
        ("folds shuffled", Change(fold_seed=other)),
    ):
        yield control.row(f"seed: {name}", group, detect(features, n_train, case, change))
    if repeats < 1:
        return
    rows = [
        control.row(
            f"all seeds, median of {repeats}",
            group,
            detect(features, n_train, case, Change(*[case.seed + number] * 3)),
        )
        for number in range(1, repeats + 1)
    ]
    changed = [row.flags_changed for row in rows]
    note = f"flags changed {min(changed)} to {max(changed)}"
    key = "flags_changed" if control.labels is None else "f1"
    values = [getattr(row, key) for row in rows]
    if control.labels is not None:
        note += f"; F1 {min(values):.3f} to {max(values):.3f}, sd {np.std(values):.3f}"
    median = rows[int(np.argsort(values, kind="stable")[len(values) // 2])]
    yield replace(median, note=note)
    widest = max(rows, key=lambda row: row.flags_changed)
    yield replace(widest, factor=f"all seeds, widest of {repeats}")


def search_factors(control: Control) -> Iterator[Row]:
    """Search neighbours with FAISS instead of blocked products."""
    outcome = detect(control.features, control.n_train, control.case, Change(index="faiss_flat"))
    yield control.row("FAISS flat index", "search", outcome)


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 to a mantissa of so many bits, halves to even (10: TF32, 7: bfloat16)."""
    drop = 23 - bits
    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1) + ((words >> np.uint32(drop)) & np.uint32(1))
    kept = (words + half) & ~np.uint32((1 << drop) - 1)
    return kept.view(np.float32)


def precision_factors(control: Control) -> Iterator[Row]:
    """Keep features in half precision; round weights and features; run the network in bfloat16."""
    group, case, n_train = "precision", control.case, control.n_train
    half = control.features.astype(np.float16).astype(np.float32)
    yield control.row("features in float16", group, detect(half, n_train, case))
    brain = round_mantissa(control.features, 7)
    yield control.row("features in bfloat16", group, detect(brain, n_train, case))
    network = case.network()
    with torch.no_grad():
        for tensor in (*network.model.parameters(), *network.model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(round_mantissa(tensor.numpy(), 10)))
    rounded = round_mantissa(run_network(network, case), 10)
    yield control.row("weights and features as TF32", group, detect(rounded, n_train, case))
    brain = run_network(case.network(), case, autocast=torch.bfloat16)
    yield control.row("network in bfloat16 (autocast)", group, detect(brain, n_train, case))


def decoding_factors(control: Control) -> Iterator[Row]:
    """Decode and resize in another way; then mix two ways between training and test."""
    group, case, n_train = "decoding", control.case, control.n_train
    network = case.network()
    for name, (loader, kind) in DECODERS.items():
        features = run_network(network, case, loader=loader)
        yield control.row(name, group, detect(features, n_train, case), kind=kind)
        if name in ("OpenCV, linear", "BGR for RGB"):
            features[:n_train] = control.features[:n_train]
            mixed = detect(features, n_train, case)
            yield control.row(f"{name}, test images only", group, mixed, kind=MISTAKE)


def partly_loaded(case: Case) -> Backbone:
    """Leave the last layer that is read at its random start, as a lenient loader would."""
    loaded, network = case.network(), case.network(weights="random")
    last = loaded.layers[-1].name
    state: dict[str, Tensor] = {
        key: value
        for key, value in loaded.model.state_dict().items()
        if not key.startswith(f"{last}.")
    }
    network.model.load_state_dict(state, strict=False)
    return network


def weight_factors(control: Control) -> Iterator[Row]:
    """Leave weights out, or the last layer of them; take another pretrained tag."""
    group, case, n_train = "weights", control.case, control.n_train
    if case.backbone.weights != "random":
        for name, network in (
            ("weights not loaded (random)", case.network(weights="random")),
            ("last layer not loaded", partly_loaded(case)),
        ):
            outcome = detect(run_network(network, case), n_train, case)
            yield control.row(name, group, outcome, kind=MISTAKE)
    for name in other_weights(case.backbone.name):
        factor = f"weights {name} of the hub"
        try:
            network = case.network(name=name, weights="hub")
        except ConnectionError:
            yield control.not_run(factor, group, "the hub cannot be reached", kind=CHOICE)
        else:
            outcome = detect(run_network(network, case), n_train, case)
            yield control.row(factor, group, outcome, kind=CHOICE)


def other_weights(backbone: str) -> list[str]:
    """Name the backbone's weights that one name may stand for: timm's default, torchvision's V1."""
    name = backbone.partition(".")[0]
    tags = [default_tag(name), "tv_in1k"]
    known = list_pretrained(f"{name}.*")
    return [full for full in dict.fromkeys(f"{name}.{tag}" for tag in tags) if full in known]


def mode_factors(control: Control) -> Iterator[Row]:
    """Change the batch size; forget ``eval()``, so that batches normalise themselves."""
    group, case, n_train = "batches", control.case, control.n_train
    network = case.network()
    for size in (1, 32):
        outcome = detect(run_network(network, case, batch_size=size), n_train, case)
        yield control.row(f"batch size {size}", group, outcome)
    names = [record.id for record in case.records()]
    by_hash = np.array([names.index(name) for name in hash_order(names)])
    for words, size, order in (
        ("eval() forgotten, batch 32", 32, None),
        ("eval() forgotten, batch 8", 8, None),
        ("eval() forgotten, batch 32, order by hash", 32, by_hash),
    ):
        network.model.train()
        features = run_network(network, case, batch_size=size, order=order)
        yield control.row(words, group, detect(features, n_train, case), kind=MISTAKE)


MACHINES: dict[str, dict[str, str]] = {
    "capped at AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "capped at SSE4": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}


def features_note(control: Control, sums: Sequence[float]) -> str:
    """Say how far the sums of features are from the control's."""
    own = control.features.sum(axis=(1, 2, 3), dtype=np.float64)
    if (own == sums).all():
        return "features' sums are the control's"
    return f"features' sums differ by up to {np.abs(np.array(sums) / own - 1).max():.0e} relative"


def machine_factors(control: Control) -> Iterator[Row]:
    """Change the number of threads and the instruction set, images to flags."""
    group, case = "machine", control.case
    threads = 1 if torch.get_num_threads() != 1 else 2
    runs = {
        f"{threads} thread{'s' * (threads > 1)}": (
            case.model_copy(
                update={"runtime": case.runtime.model_copy(update={"threads": threads})}
            ),
            {},
        )
    }
    runs |= {name: (case, environment) for name, environment in MACHINES.items()}
    for name, (changed, environment) in runs.items():
        found = run_elsewhere(changed, environment)
        note = features_note(control, found["feature_sums"])
        yield control.row(name, group, decide(cross_validated(found)), note=note)


def version_factors(control: Control, records: Sequence[Mapping]) -> Iterator[Row]:
    """Take runs of the same case with other libraries from records (`other_versions`)."""
    group, digest = "machine", control.case.digest()
    own = [record for record in records if record["case"] == digest]
    if not own:
        yield control.not_run(
            "older libraries",
            group,
            "no record of this case; python -m studies.gap.other_versions makes one",
        )
    for record in own:
        versions = record["versions"]
        note = features_note(control, record["feature_sums"])
        note += ": " + ", ".join(f"{name} {version}" for name, version in versions.items())
        yield control.row(
            f"older libraries, torch {versions['torch']}",
            group,
            decide(cross_validated(record)),
            note=note,
        )


def pair_factors(control: Control) -> Iterator[Row]:
    """Several changes together: a row order with a rule, and harmless ones all at once."""
    group, case, outcome = "pairs", control.case, control.outcome
    order = listing_orders(case, "test")["by hash"]
    yield control.row(
        "rows by hash and threshold of best F1 on normal-only data",
        group,
        outcome.scores[order] > adaptive_threshold(outcome.folds.held_out),
        kind=MISTAKE,
        how=REENACTED,
        scores=outcome.scores[order],
    )
    features = run_network(case.network(), case, loader=load_opencv)
    features = features.astype(np.float16).astype(np.float32)
    other = case.seed + 1
    together = detect(features, control.n_train, case, Change(other, other, other, "faiss_flat"))
    yield control.row("OpenCV, float16, FAISS and all seeds together", group, together, kind=CHOICE)
