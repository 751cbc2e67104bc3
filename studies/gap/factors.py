"""All factors, group by group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ad.progress import progress_bar
from studies.gap.decoding_factors import decoding_factors
from studies.gap.interventions import Control, Row
from studies.gap.number_factors import number_factors
from studies.gap.order_factors import order_factors
from studies.gap.threshold_factors import threshold_factors
from studies.gap.weight_factors import weight_factors

GROUPS = ("order", "numbers", "decoding", "weights", "threshold")


def all_factors(
    control: Control, *, seeds: int, draws: int, records: Sequence[Mapping]
) -> list[Row]:
    """Carry out every factor; the control comes first.

    Parameters
    ----------
    seeds : int
        Runs with all seeds changed.
    draws : int
        Row orders of each kind.
    records : sequence of mapping
        Runs with other libraries (`studies.gap.other_versions`).
    """
    groups: dict[str, Iterator[Row]] = {
        "order": order_factors(control, draws=draws),
        "numbers": number_factors(control, seeds=seeds, records=records),
        "decoding": decoding_factors(control),
        "weights": weight_factors(control),
        "threshold": threshold_factors(control),
    }
    rows = [replace(control.row("control", control.outcome, kind="control"), group="control")]
    with progress_bar(len(GROUPS), "factors", "group") as progress:
        for group in GROUPS:
            rows += [replace(row, group=group) for row in groups[group]]
            progress.update()
    return rows
