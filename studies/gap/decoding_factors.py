"""Factors of decoding: other ways from files to the network's input; images without the device."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ad.images import InputRule, read_rgb
from studies.gap.interventions import CHOICE, MISTAKE, Change, Control, Row, detect
from studies.gap.loaders import DECODERS, load_opencv, run_network


def decoding_factors(control: Control) -> Iterator[Row]:
    """Decode and resize in another way; mix two ways; take the device out of the pictures."""
    case, n_train = control.case, control.n_train
    network = case.network()
    for name, (loader, kind) in DECODERS.items():
        features = run_network(network, case, loader=loader)
        yield control.changed(name, features, kind=kind)
        if loader is load_opencv:
            half = features.astype(np.float16).astype(np.float32)
            seed = case.seed + 1
            together = detect(half, n_train, case, Change(seed, seed, seed, "faiss_flat"))
            words = f"{name}, with float16, FAISS and all seeds changed"
            yield control.row(words, together, kind=CHOICE)
            features[:n_train] = control.features[:n_train]
            yield control.changed(f"{name}, test images only", features, kind=MISTAKE)
    yield without_device(control)


def load_without_device(path: Path, rule: InputRule) -> np.ndarray:
    """Cover the picture with its own left quarter, repeated: the board without the device."""
    pixels = rule.pixels(read_rgb(path))
    quarter = pixels[:, : rule.side // 4]
    return rule.normalised(np.tile(quarter, (1, 5, 1))[:, : rule.side])


def without_device(control: Control) -> Row:
    """Take the device out of each anomalous test image (of each test image, without labels).

    Another entrant of the same competition reports that such images scored low.
    """
    case, n_train, labels = control.case, control.n_train, control.labels
    emptied = np.ones(len(control.outcome.flags), bool) if labels is None else labels == 1
    chosen = n_train + np.flatnonzero(emptied)
    features = control.features.copy()
    features[chosen] = run_network(case.network(), case, loader=load_without_device, rows=chosen)
    outcome = detect(features, n_train, case)
    note = f"{outcome.flags[emptied].sum()} of {emptied.sum()} such images are flagged"
    return control.row("anomalous images without the device", outcome, kind=CHOICE, note=note)
