"""Factors of order: rows beside other ids, training images listed otherwise, workers."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch.utils.data import DataLoader

from ad.dataset import of_split
from studies.gap.interventions import (
    ARGUED,
    CHOICE,
    MISTAKE,
    REENACTED,
    Change,
    Control,
    Row,
    detect,
)
from studies.gap.listings import hash_order
from studies.gap.row_orders import RowOrders, computed_orders, enact, f1_of_draws
from studies.gap.threshold_factors import adaptive_threshold

DELIVERED = 64  # items that worker processes hand over


def order_factors(control: Control, *, draws: int) -> Iterator[Row]:
    """Move rows, drop the join of ids, list training images in another order."""
    yield from row_factors(control, draws=draws)
    yield from id_factors(control)
    yield from training_order_factors(control)
    yield from worker_factors(control)
    yield from ARGUMENTS


def median_row(control: Control, kind: RowOrders, flags: np.ndarray, *, draws: int) -> Row:
    """Enact orders of these flags' rows; return the median draw, with the range in its note."""
    written = enact(flags, kind.orders, draws=draws, seed=control.case.seed)
    if control.labels is None:
        values, words = (
            (written != control.outcome.flags).sum(axis=1),
            "flags changed {:.0f} to {:.0f}",
        )
    else:
        values, words = f1_of_draws(control.labels, written), "F1 {:.3f} to {:.3f}"
    ends = words.format(*np.quantile(values, [0.025, 0.975]))
    note = f"{ends} in the middle 95 % of {draws} draws; the median here"
    median = written[np.argsort(values, kind="stable")[len(values) // 2]]
    name = f"rows by position: {kind.name}"
    return control.row(name, median, kind=MISTAKE, how=REENACTED, note=note)


def row_factors(control: Control, *, draws: int) -> Iterator[Row]:
    """Write flags beside sorted ids in listing order, on a flat folder with shuffled labels."""
    outcome = control.outcome
    kinds = computed_orders(len(outcome.flags), draws=draws, seed=control.case.seed)
    for kind in kinds:
        yield median_row(control, kind, outcome.flags, draws=draws)
    both = outcome.scores > adaptive_threshold(outcome.folds.held_out)
    row = median_row(control, kinds[0], both, draws=draws)
    yield replace(row, factor=f"{row.factor}, and threshold of best F1 on normals")


def id_factors(control: Control) -> Iterator[Row]:
    """Take ids from Windows paths by splitting at the wrong sign: no id finds its row."""
    paths = [rf"test\TEST_{number:03d}.png" for number in range(len(control.outcome.flags))]
    ids = [path.rpartition("\\")[2].removesuffix(".png") for path in paths]
    answers = dict(zip((path.split("/")[-1].removesuffix(".png") for path in paths),
                       control.outcome.flags, strict=True))  # fmt: skip
    found = np.array([answers.get(name, False) for name in ids])
    note = f"{sum(name in answers for name in ids)} of {len(ids)} ids are found; the rest become 0"
    yield control.row(
        "ids split at '/' on Windows paths", found, kind=MISTAKE, how=REENACTED, note=note
    )


def training_order_factors(control: Control) -> Iterator[Row]:
    """List training images by a hash; draw banks from one listing and hold out by another."""
    names = [record.path for record in of_split(control.case.records(), "train")]
    number = {name: position for position, name in enumerate(names)}
    listed = control.features.copy()
    listed[: len(names)] = listed[[number[name] for name in hash_order(names)]]
    yield control.changed("training images listed by hash", listed)
    mixed = detect(control.features, control.n_train, control.case, Change(bank_features=listed))
    yield control.row("banks and held-out images from two listings", mixed, kind=MISTAKE)


def worker_factors(control: Control) -> Iterator[Row]:
    """Let worker processes deliver numbered items; compare the order with the one asked for."""
    for method in ("fork", "spawn"):
        factor = f"worker processes by {method}"
        try:
            loader = DataLoader(
                range(DELIVERED), batch_size=4, num_workers=2, multiprocessing_context=method
            )
            delivered = [int(item) for batch in loader for item in batch]
        except (ValueError, OSError, RuntimeError) as error:
            yield Row(factor, CHOICE, ARGUED, f"not here ({error}); a loader returns its own order")
            continue
        same = delivered == list(range(DELIVERED))
        words = "in the order asked for" if same else "in another order"
        order = np.resize(np.argsort(delivered, kind="stable"), len(control.outcome.flags))
        flags = control.outcome.flags if same else control.outcome.flags[order]
        note = f"{DELIVERED} items come back {words}"
        yield control.row(factor, flags, kind=CHOICE, how=REENACTED, note=note)


ARGUMENTS = (
    Row(
        "a column assigned by position (pandas)",
        MISTAKE,
        ARGUED,
        "a list or an array becomes a column by position, whatever the ids; pandas refuses it only "
        "where lengths differ ('Length of values does not match length of index', the message that "
        "the team quotes). Its effect is that of the rows by position above",
    ),
    Row(
        "Google Drive's listing",
        CHOICE,
        ARGUED,
        "the service promises no order of a folder's files unless one is asked for; as an "
        "arbitrary order it is one of the shuffled rows above",
    ),
)
